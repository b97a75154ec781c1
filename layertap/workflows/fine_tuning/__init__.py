"""The steps of fine-tuning, in the order in which `layertap.workflows.fine_tune` takes them.

`start` finds the features and the head to begin with, `plan` cuts the net and builds what is trained, `rows` collects
what it is trained on, `cost` times a few steps, `training` trains and judges it on each split, and `saving` writes the
run.
"""
