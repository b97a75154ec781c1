"""Looking after a cache: verify, compact, prune, merge, view, export."""
