"""The commands of `layertap ramp`."""
