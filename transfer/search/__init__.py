"""Searching features: the rows nearest to queries, exactly or by an approximate index."""
