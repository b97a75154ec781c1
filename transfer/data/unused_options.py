"""Options of a data set that do not suit what it is."""

from __future__ import annotations

from feature_cache.errors import InvalidChoice


def require_unused(what: str, split: str | None, value_range: tuple[float, float] | None) -> None:
    """Raise InvalidChoice where a split or a range is passed to a data set (`what`) that has none."""
    if split is not None:
        raise InvalidChoice(f"{what} and has no splits; leave out `split={split!r}`.")
    if value_range is not None:
        raise InvalidChoice(f"{what}, and `value_range` goes with arrays of floats or of integers alone; leave it out.")
