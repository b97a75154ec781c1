"""The page of a drift: how far new images are from old ones, and those that are furthest, each beside its nearest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertap.report.match_page import shown
from layertap.report.pages import write_page
from transfer.data.images import decoding_of

if TYPE_CHECKING:
    from layertap.workflows.drift import Drift

MOST_SHOWN = 60  # images
SHARES = (0.5, 0.9, 0.95, 0.99)  # of the old images, by which the distances of new ones are told


def write(file: Path, drift: Drift) -> None:
    """Write the page (see `Drift.write_page`)."""
    test, spec = drift.test, drift.spec
    facts = [
        *((f"{what} images", f"{each.name}: {len(each):,}") for what, each in (("Old", drift.old), ("New", drift.new))),
        ("Features", f"{spec.net}, layer {spec.layer}, pooling {spec.pooling}"),
        ("p-value of the kernel two-sample test", f"{test.p_value:.4g} ({test.permutations:,} permutations)"),
        ("Squared maximum mean discrepancy", f"{test.mmd2:.4g} (bandwidth {test.bandwidth:.4g})"),
    ]
    write_page(
        file,
        "drift.html",
        title=f"Drift of {drift.new.name} from {drift.old.name}",
        styles=["matches.css", "drift.css"],
        facts=facts,
        notes=drift.notes,
        beyond=[(f"{share:.0%}", (text, text)) for share, text in _beyond(drift)],
        pairs=_pairs(drift),
        count=f"{len(drift.new):,}",
    )


def _beyond(drift: Drift) -> list[tuple[float, str]]:
    """The share of the new images that are further away than a share of the old ones is from the other old ones."""
    return [(share, f"{(drift.ranks >= share).mean():.3f}") for share in SHARES]


def _pairs(drift: Drift) -> list[dict[str, Any]]:
    """The images that are furthest away, each with the old image that is nearest to it."""
    decoding = decoding_of(drift.spec)
    return [
        {
            "new": shown(drift.new, place, decoding),
            "old": shown(drift.old, int(drift.nearest[place]), decoding),
            "caption": f"rank {drift.ranks[place]:.3f}",
        }
        for place in drift.order[:MOST_SHOWN].tolist()
    ]
