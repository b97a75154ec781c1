"""RAMP challenges (see docs/guide.md): kits are run, submissions written and judged."""

from layertap.ramp.trials.workflow import ImageClassifier

__all__ = ["ImageClassifier"]
