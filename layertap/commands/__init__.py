"""The commands of the command line: each takes parsed arguments, calls the other rooms, and prints."""
