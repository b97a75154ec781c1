"""Engines: what runs a cut net on batches of pixels."""
