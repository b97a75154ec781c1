"""`Report`: what an extraction did, and how long it waited for what."""

from __future__ import annotations

from dataclasses import dataclass, field

from transfer.data.datasets import Unreadable


@dataclass(frozen=True)
class Report:
    """What an extraction did. Rows are counted over all spaces: the total is computed, reused and skipped ones.

    Attributes
    ----------
    engine : str
        Empty where nothing was computed, as `batch_size` is 0.
    waited : dict of str to float
        Seconds by what the extraction waited for: ``prepare`` (looking up what is missing, loading or converting the
        net), ``decode`` (images to be read and decoded), ``compute`` (the engine), ``write`` (the disk).
    peak : float
        Images a second of the engine alone, where that was measured; else 0.
    started_from : list of str
        The stored layers that rows were computed from; empty where they were computed from pixels.
    note : str
        Why another engine was used than the one that was chosen.
    remarks : list of str
        Sentences: whether another net suits such images better, which pixels the net of a file expects, and what
        decoding has guessed or left out.
    warnings : list of str
        Sentences: what was assumed of the pixels that the net of a file expects.
    """

    rows_total: int
    rows_computed: int
    rows_reused: int
    rows_skipped: int
    seconds: float
    images_per_second: float
    bytes_written: int
    spaces: list[str]
    engine: str = ""
    batch_size: int = 0
    started_from: list[str] = field(default_factory=list)
    waited: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0
    note: str = ""
    skipped: list[Unreadable] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
