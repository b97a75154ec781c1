"""The commands of `layertap cache`."""
