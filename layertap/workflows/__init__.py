"""Workflows: one file for each thing that people do. They take and return plain objects, and print nothing.

`training` has the parts that several of them share, and `fine_tuning` has the steps of `fine_tune`. What they
return is in `layertap.runs` and `layertap.results`.
"""
