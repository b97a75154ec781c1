"""`Report`: what an extraction did, and how long it waited for what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

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

    def with_remarks(self, remarks: Iterable[str], warnings: Iterable[str]) -> Report:
        """The same report with other remarks and warnings before its own."""
        return replace(self, remarks=[*remarks, *self.remarks], warnings=[*warnings, *self.warnings])


def one_after_another(reports: Sequence[Report]) -> Report:
    """One report of extractions of the same images at other layers, one after another: numbers are added up."""
    first, computed = reports[0], [report for report in reports if report.rows_computed]
    if len(reports) == 1:
        return first
    seconds = sum(report.seconds for report in reports)
    images = sum(report.images_per_second * report.seconds for report in reports)
    last = computed[-1] if computed else first
    return replace(
        last,
        rows_total=sum(report.rows_total for report in reports),
        rows_computed=sum(report.rows_computed for report in reports),
        rows_reused=sum(report.rows_reused for report in reports),
        rows_skipped=sum(report.rows_skipped for report in reports),
        seconds=round(seconds, 3),
        images_per_second=round(images / seconds, 1) if seconds else 0.0,
        bytes_written=sum(report.bytes_written for report in reports),
        spaces=[space for report in reports for space in report.spaces],
        waited={what: round(sum(r.waited.get(what, 0.0) for r in reports), 3) for what in last.waited},
        remarks=list(dict.fromkeys(remark for report in reports for remark in report.remarks)),
        warnings=list(dict.fromkeys(warning for report in reports for warning in report.warnings)),
    )


def side_by_side(reports: Sequence[Report], views: int) -> Report:
    """One report of workers that have shared the same images: counts are added up.

    Seconds waited are means over the workers that computed.
    """
    computed = sum(report.rows_computed for report in reports)
    skipped = list({problem.id: problem for report in reports for problem in report.skipped}.values())
    first = reports[0]
    left_out = len(skipped) * len(first.spaces) * views
    seconds = max(report.seconds for report in reports)
    ran = [report for report in reports if report.engine] or [first]
    return replace(
        max(ran, key=lambda report: report.rows_computed),
        rows_computed=computed,
        rows_reused=first.rows_total - computed - left_out,
        rows_skipped=left_out,
        seconds=seconds,
        images_per_second=round(sum(report.images_per_second * report.seconds for report in reports) / seconds, 1),
        bytes_written=sum(report.bytes_written for report in reports),
        started_from=sorted({layer for report in reports for layer in report.started_from}),
        waited={what: round(float(np.mean([r.waited.get(what, 0.0) for r in ran])), 3) for what in ran[0].waited},
        peak=round(sum(report.peak for report in ran), 1) if all(report.peak for report in ran) else 0.0,
        remarks=list(dict.fromkeys(remark for report in reports for remark in report.remarks)),
        note="; ".join(dict.fromkeys(report.note for report in ran if report.note)),
        skipped=skipped,
    )
