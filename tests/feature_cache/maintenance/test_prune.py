"""Pruning: what is old, too much or named is listed and removed; what runs cite and what is not ours stays."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import InvalidChoice, StorageFailure
from feature_cache.maintenance.prune import DAY, Removal, candidates, remove
from feature_cache.maintenance.verify import Damage, set_aside

LAYERS = ("old", "older", "oldest")


@pytest.fixture
def spaces(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable) -> list[Space]:
    """Spaces last used 10, 20 and 30 days ago, each with two segments."""
    made = []
    for number, layer in enumerate(LAYERS, 1):
        space = cache[replace(spec, layer=layer)]
        for first in (0, 3):
            with space.writer({}) as writer:
                writer.append(*made_rows(first, 3, (2000 * number,)))
        used(space, 10 * number)
        made.append(space)
    return made


def used(space: Space, days: float) -> None:
    """Make it look as if `space` was last used so many days ago."""
    age(space.folder / ".used", days * DAY)


def age(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def size(space: Space) -> int:
    return sum(path.stat().st_size for path in space.folder.iterdir())


def named(removals: list[Removal]) -> list[str]:
    return [removal.name for removal in removals]


class TestWhatIsChosen:
    def test_without_criteria_nothing(self, cache: FeatureCache, spaces: list[Space]):
        assert candidates(cache) == []

    def test_a_cache_that_is_not_there_has_nothing(self, cache: FeatureCache):
        assert candidates(cache, older_than=0, max_bytes=0) == []
        assert not cache.root.exists()

    @pytest.mark.parametrize(("days", "chosen"), [(0, 3), (9, 3), (15, 2), (20.5, 1), (31, 0)])
    def test_by_age(self, cache: FeatureCache, spaces: list[Space], days: float, chosen: int):
        found = candidates(cache, older_than=days)
        assert named(found) == sorted(space.folder.name for space in spaces[3 - chosen :])
        assert all(removal.reason.startswith("not used for ") for removal in found)
        if chosen == 1:
            assert found[0].reason == "not used for 30 days"

    @pytest.mark.parametrize("how", ["read", "written", "looked at"])
    def test_what_is_read_or_written_is_in_use(
        self, cache: FeatureCache, spaces: list[Space], made_rows: Callable, how: str
    ):
        oldest = cache.open(spaces[2].folder.name)
        if how == "read":
            oldest.rows(made_rows(0, 1)[0])
        elif how == "written":
            with oldest.writer({}) as writer:
                writer.append(*made_rows(9, 1, (6000,)))
        else:
            assert len(oldest) == 6
        chosen = spaces[1:] if how == "looked at" else spaces[1:2]
        assert named(candidates(cache, older_than=15)) == sorted(space.folder.name for space in chosen)

    def test_files_are_those_of_the_cache_and_bytes_are_theirs(self, cache: FeatureCache, spaces: list[Space]):
        (removal,) = candidates(cache, older_than=25)
        assert {path.name for path in removal.files} == {path.name for path in spaces[2].folder.iterdir()}
        assert removal.files[-1].name == "spec.json"  # while it is there, the rest can be made sense of
        assert removal.bytes == size(spaces[2])
        assert removal.cited_by == []

    def test_to_a_budget_the_least_recently_used_first(self, cache: FeatureCache, spaces: list[Space]):
        sizes = [size(space) for space in spaces]
        for budget, chosen in (
            (sum(sizes), 0),
            (sum(sizes) - 1, 1),
            (sizes[0] + sizes[1], 1),
            (sizes[0] + sizes[1] - 1, 2),
            (sizes[0], 2),
            (0, 3),
        ):
            found = candidates(cache, max_bytes=budget)
            assert named(found) == sorted(space.folder.name for space in spaces[3 - chosen :]), budget
            assert {removal.reason for removal in found} <= {"over the budget, least recently used"}

    def test_age_and_budget_and_name_add_up(self, cache: FeatureCache, spaces: list[Space]):
        names = [space.folder.name for space in spaces]
        found = candidates(cache, spaces=[names[0]], older_than=25, max_bytes=size(spaces[1]))
        assert {removal.name: removal.reason for removal in found} == {
            names[0]: "named",
            names[2]: "not used for 30 days",
        }
        found = candidates(cache, spaces=[names[0]], max_bytes=size(spaces[1]) + size(spaces[2]) - 1)
        assert {removal.name: removal.reason for removal in found} == {
            names[0]: "named",
            names[2]: "over the budget, least recently used",
        }

    def test_a_name_that_is_no_space_is_refused_and_nothing_is_chosen(self, cache: FeatureCache, spaces: list[Space]):
        name = spaces[0].folder.name
        with pytest.raises(InvalidChoice, match=f"no space '{name}x'; did you mean '{name}'.*layertap cache list"):
            candidates(cache, spaces=[f"{name}x"])
        (cache.root.parent / "outside").mkdir()
        (cache.root.parent / "outside" / "spec.json").write_text("{}")
        for outside in ("..", ".", "../outside", str(cache.root.parent / "outside"), ""):
            with pytest.raises(InvalidChoice, match="has no space"):
                candidates(cache, spaces=[outside])

    @pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
    def test_a_space_whose_spec_is_damaged_can_be_removed(
        self, cache: FeatureCache, spaces: list[Space], content: bytes | None
    ):
        file = spaces[0].folder / "spec.json"
        file.unlink() if content is None else file.write_bytes(content)
        found = candidates(cache, spaces=[spaces[0].folder.name])
        remove(found)
        assert not spaces[0].folder.exists()
        assert len(cache.spaces()) == 2


class TestTemporaryFiles:
    def test_those_of_dead_writers_are_chosen_and_fresh_ones_are_not(self, cache: FeatureCache, spaces: list[Space]):
        for seconds, folder in ((3700, spaces[0].folder), (3700, cache.root), (1000, spaces[1].folder)):
            (folder / f".segment-{seconds}.tmp").write_bytes(b"half a segment")
            age(folder / f".segment-{seconds}.tmp", seconds)
        found = candidates(cache)
        assert sorted(named(found)) == sorted([spaces[0].folder.name, cache.root.name])
        assert {removal.reason for removal in found} == {"temporary files of dead writers"}
        assert [removal.bytes for removal in found] == [14, 14]
        remove(found)
        left = list(cache.root.rglob("*.tmp"))
        assert left == [spaces[1].folder / ".segment-1000.tmp"]
        assert len(cache.spaces()) == 3

    def test_those_of_a_space_that_goes_go_with_it(self, cache: FeatureCache, spaces: list[Space]):
        age(spaces[0].folder / ".used", 0)
        aside = spaces[2].folder / ".segment-x.tmp"
        aside.write_bytes(b"half")
        age(aside, 7200)
        found = candidates(cache, older_than=25)
        assert named(found) == [spaces[2].folder.name]
        assert aside in found[0].files
        remove(found)
        assert not spaces[2].folder.exists()

    def test_a_folder_of_such_a_name_is_not_ours(self, cache: FeatureCache, spaces: list[Space]):
        for folder in (cache.root / ".run.0123.tmp", spaces[0].folder / "damaged-segment-x.h5"):
            folder.mkdir()
            (folder / "file").write_text("someone's")
            age(folder, 7200)
        remove(candidates(cache))
        assert len(list(cache.root.rglob("file"))) == 2

    def test_segments_set_aside_are_always_chosen(self, cache: FeatureCache, spaces: list[Space], made_rows: Callable):
        name = spaces[1].segments[0].path.name
        set_aside(spaces[1], [Damage(name, "is damaged")])
        (removal,) = candidates(cache)
        assert (removal.name, removal.reason) == (spaces[1].folder.name, "damaged segments set aside")
        assert [path.name for path in removal.files] == [f"damaged-{name}"]
        remove([removal])
        assert cache.open(spaces[1].folder.name).has(made_rows(0, 6)[0]).sum() == 3


class TestWhatIsRemoved:
    def test_the_space_and_no_other(self, cache: FeatureCache, spaces: list[Space], listing: Callable):
        before = {name: content for name, content in listing(cache.root).items() if spaces[2].folder.name not in name}
        remove(candidates(cache, older_than=25))
        assert not spaces[2].folder.exists()
        assert listing(cache.root) == before
        assert [len(cache.open(name)) for name in cache.spaces()] == [6, 6]

    def test_foreign_files_stay_and_with_them_the_folder(self, cache: FeatureCache, spaces: list[Space]):
        folder = spaces[0].folder
        for name in ("notes.txt", "segment.h5", "my-segment-1.h5", "view.h5", "spec.json.bak", ".hidden", "index.bin~"):
            (folder / name).write_text("mine")
        (folder / "inner").mkdir()
        (folder / "inner" / "segment-1.h5").write_text("mine")
        mine = {path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == b"mine"}
        assert len(mine) == 8
        remove(candidates(cache, spaces=[folder.name]))
        assert {path for path in folder.rglob("*") if path.is_file()} == mine
        assert folder.name not in cache.spaces()

    def test_a_link_is_removed_and_not_what_it_leads_to(self, cache: FeatureCache, spaces: list[Space], tmp_path: Path):
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "file").write_text("precious")
        folder = spaces[0].folder
        for name, target in (
            ("segment-link.h5", precious / "file"),
            ("segment-folder.h5", precious),
            ("segment-nowhere.h5", precious / "nothing"),
            (".old.tmp", precious / "file"),
        ):
            (folder / name).symlink_to(target)
        age(precious / "file", 7200)
        remove(candidates(cache))
        remove(candidates(cache, spaces=[folder.name]))
        assert (precious / "file").read_text() == "precious"
        assert not folder.exists()

    @pytest.mark.parametrize("by_name", [False, True])
    def test_a_space_that_is_a_link_to_elsewhere_is_not_emptied(
        self, cache: FeatureCache, spaces: list[Space], tmp_path: Path, listing: Callable, by_name: bool
    ):
        elsewhere = spaces[2].folder.rename(tmp_path / "elsewhere")
        spaces[2].folder.symlink_to(elsewhere)
        (elsewhere / ".dead.tmp").write_text("half")
        age(elsewhere / ".dead.tmp", 7200)
        before = listing(elsewhere)
        remove(candidates(cache))
        chosen = [space.folder.name for space in spaces[:: 2 if by_name else 5]]
        with contextlib.suppress(InvalidChoice):
            remove(candidates(cache, spaces=chosen, older_than=5, max_bytes=0))
        assert listing(elsewhere) == before

    def test_nothing_outside_the_cache_is_touched(
        self, cache: FeatureCache, spaces: list[Space], tmp_path: Path, listing: Callable
    ):
        for folder in (tmp_path, tmp_path / "next"):
            folder.mkdir(exist_ok=True)
            for name in ("segment-1.h5", ".x.tmp", "damaged-segment-1.h5", "spec.json"):
                age_of = folder / name
                age_of.write_text("outside")
                age(age_of, 7200)
        remove(candidates(cache, older_than=0, max_bytes=0))
        assert cache.spaces() == []
        assert len([content for content in listing(tmp_path).values() if content == b"outside"]) == 8

    def test_what_is_gone_already_is_no_error(self, cache: FeatureCache, spaces: list[Space]):
        found = candidates(cache, older_than=25)
        spaces[2].segments[0].path.unlink()
        remove(found)
        remove(found)
        assert not spaces[2].folder.exists()

    def test_what_cannot_be_removed_is_said(self, cache: FeatureCache, spaces: list[Space]):
        found = candidates(cache, older_than=25)
        path = found[0].files[0]
        path.unlink()
        path.mkdir()
        with pytest.raises(StorageFailure, match=f"^cannot remove {path}: "):
            remove(found)

    def test_a_segment_written_meanwhile_stays(self, cache: FeatureCache, spaces: list[Space], made_rows: Callable):
        found = candidates(cache, older_than=25)
        with spaces[2].again().writer({}) as writer:
            writer.append(*made_rows(90, 2, (6000,)))
        remove(found)
        digests, rows = made_rows(90, 2, (6000,))
        np.testing.assert_array_equal(np.asarray(spaces[2].again().rows(digests)), rows)
        assert cache.open(spaces[2].folder.name).spec == spaces[2].spec  # its segment knows it
