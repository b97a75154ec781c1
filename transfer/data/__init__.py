"""Data sets: images, their ids and their labels, from folders, tables and arrays."""
