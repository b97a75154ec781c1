"""Submissions of a RAMP kit: run one after another, each in a process of its own, scored and compared."""
