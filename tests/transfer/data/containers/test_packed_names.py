"""Packed names are the names that went in, whatever characters they have."""

from __future__ import annotations

import pickle

import numpy as np
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
    rare = ['\0\n"\\', "\ud83d", "\ude00", "\ud83d\ude00"] * 32  # enough for a compressed block
    assert list(PackedNames(rare)) == rare
    for place in (5, -6):
        with pytest.raises(IndexError):
            packed[place]


def test_many_names_take_a_few_bytes_each_and_are_selected_in_any_order() -> None:
    names = [f"shard-0000.tar/{number:07d}.png" for number in range(10_001)]
    packed = PackedNames(names)
    order = np.random.default_rng(0).permutation(len(names))[:5000]
    assert list(packed.select(order)) == [names[place] for place in order]
    assert packed[::-1] == names[::-1] and packed[-1] == names[-1] and packed[64:66] == names[64:66]
    assert len(pickle.dumps(packed)) < 6 * len(names)
    packed.append("last")
    assert packed == [*names, "last"]
