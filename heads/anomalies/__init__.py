"""Heads that learn what is normal from one class, and score how far an image is from it."""
