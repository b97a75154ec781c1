"""Maintenance of a cache: verify, compact, prune, merge, shrink, view and export."""
