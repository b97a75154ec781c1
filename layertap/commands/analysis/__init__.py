"""The commands that look through features."""
