"""Extraction by the workers of a Ray cluster: Ray places them, starts them again, and repeats what they did not end."""
