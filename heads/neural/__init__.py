"""Heads made of Keras layers."""
