"""Nets: what is known of them by name, how they are built, and what their layers cost."""
