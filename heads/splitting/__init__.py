"""Splits of rows into training, validation and test parts."""
