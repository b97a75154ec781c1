"""Packed names are the names that went in, whatever characters they have."""

from __future__ import annotations

import pytest

from transfer.data.containers.packed_names import PackedNames

NAMES = ("cat/1.png", "", "ein Hund/日本.png", "\udce9.png", "cat/1.png")


def test_they_equal_the_names_and_are_found_by_their_place() -> None:
    packed = PackedNames(NAMES)
    assert packed == NAMES and packed == PackedNames(NAMES)
    assert packed != NAMES[1:] and packed != (*NAMES[1:], "x") and packed != "cat"
    assert [packed[place] for place in range(-5, 5)] == [*NAMES, *NAMES]
    assert packed[::-2] == NAMES[::-2]
    assert packed.index("\udce9.png") == 3 and "" in packed and "dog" not in packed
    for place in (5, -6):
        with pytest.raises(IndexError):
            packed[place]
