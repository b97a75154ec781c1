"""Workflows: one file for each thing that people do. They take and return plain objects, and print nothing."""
