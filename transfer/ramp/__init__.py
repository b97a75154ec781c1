"""RAMP challenges (see docs/guide.md): kits are run, submissions written and judged."""

from transfer.ramp.workflow import ImageClassifier

__all__ = ["ImageClassifier"]
