"""Plans: files that list commands and their options as steps. They are read, followed and written here.

This room knows files and texts alone. What a step means, `layertap.commands.arguments.plan_steps` asks the parsers of
the commands.
"""
