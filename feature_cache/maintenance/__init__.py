"""Maintenance of a cache: verify, compact, prune, merge, shrink, view, export, and the lineage of runs."""
