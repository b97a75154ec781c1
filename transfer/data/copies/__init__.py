"""Copies and near-duplicates of images: how they are recognised, and which images stay together for them."""
