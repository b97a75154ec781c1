"""Segments: the immutable HDF5 files that hold the rows of a space."""
