"""Extraction: from images to features in the cache."""
