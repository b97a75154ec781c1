"""Sizes and durations in the units that people read: those of the lowest room, for the rooms above."""

from feature_cache.units import size_text, time_text

__all__ = ["size_text", "time_text"]
