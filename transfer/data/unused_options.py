"""Options of a data set that do not suit what it is."""

from __future__ import annotations

from feature_cache.errors import InvalidChoice


def require_unused(what: str, split: str | None, value_range: tuple[float, float] | None) -> None:
    """Raise InvalidChoice where a split or a range is passed to a data set (`what`) that has none."""
    if split is not None:
        raise InvalidChoice(f"{what} and has no splits; leave out `split={split!r}`.")
    if value_range is not None:
        raise InvalidChoice(f"{what}, and `value_range` goes with arrays of floats or of integers alone; leave it out.")


def require_unused_columns(path: object, class_column: str, id_column: str) -> None:
    """Raise InvalidChoice where a column is named for a data set that has none."""
    for name, value, usual in (("class_column", class_column, "class"), ("id_column", id_column, "id")):
        if value != usual:
            raise InvalidChoice(f"{path} has categories and no columns; leave out `{name}`.")
