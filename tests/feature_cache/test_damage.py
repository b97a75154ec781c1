"""Whatever happens to a segment on disk, it gives right rows or is refused by name: never wrong ones, never a crash.

Damaged files are read in a process of their own, as HDF5 may take a process down with it, or never come back.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_helpers import in_child

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.errors import DamagedFile
from feature_cache.segments import encoding, segment, segment_writer

MASKS = (0xFF, 0x01, 0x80, 0x10)


@dataclass(frozen=True)
class Case:
    """A space with one segment, and what it holds."""

    root: Path
    spec: FeatureSpec
    file: Path
    digests: np.ndarray
    rows: np.ndarray
    content: bytes

    def outcome(self) -> str:
        """What comes of reading all rows, each way."""
        try:
            features = FeatureCache(self.root)[self.spec].rows(self.digests)
            whole, turned = np.asarray(features), features[::-1]
            single = np.stack([features[row] for row in (0, -1)])
        except DamagedFile as error:
            return "refused" if str(self.file) in str(error) else f"refused without its name: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        right = whole.shape == self.rows.shape and whole.dtype == self.rows.dtype
        right = right and whole.tobytes() == self.rows.tobytes() == turned[::-1].tobytes()
        return "right" if right and (single == self.rows[[0, -1]]).all() else "wrong rows"

    def with_content(self, content: bytes, stamp: int) -> str:
        """What comes of reading when the file has this content, and looks as old as it was."""
        self.file.write_bytes(content)
        os.utime(self.file, ns=(stamp, stamp))
        return self.outcome()


@pytest.fixture(params=["plain", "compressed", "int8", "indexed", "blocks", "compressed blocks"])
def case(request: pytest.FixtureRequest, tmp_path: Path, spec: FeatureSpec, made_rows: Callable) -> Case:
    root, parameters = tmp_path / "features", None
    digests, rows = made_rows(0, 9 if "blocks" in request.param else 20, (1500,) if "blocks" in request.param else (5,))
    stored = rows
    if request.param == "int8":
        parameters = {"scale": np.linspace(0.5, 2, 5).astype(np.float32)}
        spec = replace(spec, dtype="int8", coding=f"int8-{encoding.digest(parameters)}")
        stored = encoding.to_int8(rows, parameters)
        rows = stored * parameters["scale"]
    folder, compress = root / spec.folder_name, request.param.startswith("compressed")
    folder.mkdir(parents=True)
    views = np.zeros(len(digests), np.uint32)
    file = segment_writer.write(folder, spec, stored, digests, views, {"a": 1}, coding=parameters, compress=compress)
    (folder / "spec.json").write_text(spec.to_json())
    if request.param == "indexed":
        FeatureCache(root)[spec].index.save(folder, spec.to_json())
    made = Case(root, spec, file, digests, rows, file.read_bytes())
    assert made.outcome() == "right"
    return made


def outcomes(case: Case, contents: Iterable[tuple[str, bytes]]) -> Counter[str]:
    """How often what came of reading the file with these contents; what should not come is told with its place."""
    stamp, found = case.file.stat().st_mtime_ns, Counter()
    for place, content in contents:
        outcome = case.with_content(content, stamp)
        found[outcome if outcome in ("right", "refused") else f"{place}: {outcome}"] += 1
    return found


def flipped(content: bytes, offsets: Iterable[int], masks: tuple[int, ...]) -> Iterable[tuple[str, bytes]]:
    for offset in offsets:
        changed = bytearray(content)
        changed[offset] ^= masks[offset % len(masks)]
        yield f"byte {offset}", bytes(changed)


def _flip(case: Case, offsets: Iterable[int], masks: tuple[int, ...]) -> Counter[str]:
    return outcomes(case, flipped(case.content, offsets, masks))


def _truncate(case: Case, lengths: list[int]) -> Counter[str]:
    return outcomes(case, ((f"length {length}", case.content[:length]) for length in lengths))


def _blank(case: Case, starts: range, size: int, filling: bytes) -> Counter[str]:
    return outcomes(
        case,
        (
            (f"{size} bytes from {start}", (case.content[:start] + size * filling + case.content[start + size :]))
            for start in starts
        ),
    )


def expect(case: Case, work: Callable, *arguments: object, seconds: float = 30) -> Counter[str]:
    """What comes of reading in a child, which has to be nothing but right rows and refusals."""
    try:
        found = in_child(work, case, *arguments, seconds=seconds)
    except AssertionError as error:
        left = case.file.read_bytes()
        differ = [place for place, (was, now) in enumerate(zip(case.content, left, strict=False)) if was != now]
        raise AssertionError(f"with {len(left)} bytes, altered from {differ[:1]} on: {error}") from error
    assert set(found) <= {"right", "refused"}
    return found


@pytest.mark.slow
def test_flipped_byte_anywhere_gives_right_rows_or_a_refusal(case: Case):
    step = max(1, len(case.content) // 130)
    found = expect(case, _flip, range(0, len(case.content), step), MASKS)
    assert found["refused"] > 10


@pytest.mark.parametrize("case", ["plain", "compressed"], indirect=True)
def test_each_flipped_byte_that_tells_something_gives_right_rows_or_a_refusal(case: Case):
    """Those that are not zero, but in the rows and digests: texts, sizes and addresses, and their checksums."""
    part = segment.read(case.file, case.spec)
    data = [case.content.find(bytes(part.digests)), int(part.chunks[0, 0]) if part.chunks is not None else part.offset]
    lengths = [part.digests.nbytes, int(part.chunks[0, 1]) if part.chunks is not None else len(part) * part.row_bytes]
    spared = {place for start, length in zip(data, lengths, strict=True) for place in range(start, start + length)}
    offsets = [place for place, byte in enumerate(case.content) if byte and place not in spared]
    expect(case, _flip, offsets, (0xFF,), seconds=60)


def test_flipped_byte_of_the_rows_is_always_refused(case: Case):
    part = segment.read(case.file, case.spec)
    if part.chunks is None:
        start, stop = part.offset, part.offset + len(part) * part.row_bytes
    else:
        start, stop = int(part.chunks[0, 0]), int(part.chunks[0].sum())
    found = expect(case, _flip, range(start, stop, max(1, (stop - start) // 40)), MASKS)
    assert set(found) == {"refused"}


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS[:2], ids=hex)
def test_each_flipped_byte_gives_right_rows_or_a_refusal(case: Case, mask: int):
    step = max(1, len(case.content) // 1000)
    first = MASKS.index(mask) * step  # each mask has every second place
    expect(case, _flip, range(first, len(case.content), 2 * step), (mask,), seconds=300)


def test_truncated_segment_is_refused_at_any_length(case: Case):
    lengths = [*range(0, len(case.content), max(1, len(case.content) // 60)), len(case.content) - 1]
    found = expect(case, _truncate, lengths)
    assert found == {"refused": len(lengths)}


def test_lost_sectors_give_right_rows_or_a_refusal(case: Case):
    expect(case, _blank, range(0, len(case.content), max(512, len(case.content) // 30 // 512 * 512)), 512, b"\0")


def test_longer_segment_gives_right_rows_or_a_refusal(case: Case):
    assert case.with_content(case.content + bytes(5000), 0) in ("right", "refused")


def test_rows_of_two_segments_that_were_swapped_are_right(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool
):
    digests, rows = made_rows(0, 20)
    for first in (0, 10):
        add(cache, digests[first : first + 10], rows[first : first + 10], compress=compress)
    one, other = (part.path for part in cache[spec].segments)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), rows)


def _future(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with h5py.File(file, "r+") as opened:
        opened.attrs["layertap_format"] = 3


def _foreign(content: bytes, file: Path) -> None:
    with h5py.File(file, "w") as opened:
        opened["features"] = np.ones((20, 5), np.float32)
        opened["labels"] = np.arange(20)


def _folder(content: bytes, file: Path) -> None:
    file.unlink()
    file.mkdir()


FAKES = {
    "empty": lambda content, file: file.write_bytes(b""),
    "text": lambda content, file: file.write_text("features: see the other folder\n" * 1000),
    "zeros": lambda content, file: file.write_bytes(bytes(len(content))),
    "signature": lambda content, file: file.write_bytes(content[:8]),
    "inverted": lambda content, file: file.write_bytes(bytes(255 - byte for byte in content)),
    "twice": lambda content, file: file.write_bytes(content[: len(content) // 2] + content),
    "future": _future,
    "foreign": _foreign,
    "folder": _folder,
}


@pytest.mark.parametrize("fake", FAKES)
@pytest.mark.parametrize("indexed", [False, True], ids=["unknown", "known"])
def test_fake_segment_is_refused_with_its_name(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool, fake: str, indexed: bool
):
    digests, rows = made_rows(0, 20, (5,))
    add(cache, digests, rows, compress=compress)
    space = cache[spec]
    if indexed:
        space.index.save(space.folder, spec.to_json())
    (part,) = space.segments
    FAKES[fake](part.path.read_bytes(), part.path)
    for read in (cache[spec].rows, cache[spec].has):
        with pytest.raises(DamagedFile) as caught:
            read(digests)
        assert str(caught.value).startswith(f"{part.path} ")
        assert caught.value.exit_code == 1
    with pytest.raises(DamagedFile, match=part.path.name):
        _ = cache[spec].segments


def test_segment_of_another_spec_is_refused_with_its_name(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool
):
    digests, rows = made_rows(0, 20)
    add(cache, digests, rows, compress=compress)
    other = replace(spec, layer="fc1")
    with cache[other].writer({}, compress=compress) as writer:
        writer.append(digests, rows)
    (part,) = cache[other].segments
    moved = part.path.rename(cache[spec].folder / part.path.name)
    with pytest.raises(DamagedFile) as caught:
        cache[spec].rows(digests)
    assert str(caught.value) == (
        f"{moved} is damaged or not a segment of this cache (its feature spec is not its folder's). Set it aside with: "
        f"`feature_cache.maintenance.verify.repair({str(cache.root)!r})`; the next extract computes its rows again."
    )


@pytest.mark.parametrize("row", [0, 7, 199])
def test_altered_rows_are_named_and_the_others_are_read(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool, row: int
):
    digests, rows = made_rows(0, 200, (64,))
    add(cache, digests, rows, compress=compress)
    (part,) = cache[spec].segments
    content = bytearray(part.path.read_bytes())
    block = row // part.block_rows
    offset = part.offset + row * part.row_bytes if part.chunks is None else int(part.chunks[block].sum()) - 1
    content[offset] ^= 0x40
    part.path.write_bytes(content)
    features, first = cache[spec].rows(digests), block * part.block_rows
    last = min(first + part.block_rows, 200) - 1
    for index in (row, slice(None), [row], slice(row, row + 1)):
        for _ in range(2):  # what was refused once is not taken for good then
            with pytest.raises(DamagedFile) as caught:
                features[index]
            assert f"{part.path} is damaged" in str(caught.value)
            assert f"(altered since it was written: rows {first} to {last})" in str(caught.value)
    others = np.setdiff1d(np.arange(200), np.arange(first, last + 1))
    np.testing.assert_array_equal(features[others], rows[others])


def test_segments_beside_a_damaged_one_are_read_where_the_index_knows_them(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool
):
    digests, rows = made_rows(0, 30)
    for first in range(0, 30, 3):
        add(cache, digests[first : first + 3], rows[first : first + 3], compress=compress)
    space = cache[spec]
    assert len(space) == 30  # and by now there is an index
    part = space.segments[4]  # of the first one that is listed comes the shape of all rows
    stamp = part.path.stat().st_mtime_ns
    part.path.write_bytes(bytes(part.path.stat().st_size))
    os.utime(part.path, ns=(stamp, stamp))
    lost = (digests[:, None] == part.digests).all(2).any(1)
    assert lost.sum() == 3
    features = cache[spec].rows(digests)
    np.testing.assert_array_equal(features[~lost], rows[~lost])
    for row in np.flatnonzero(lost).tolist():
        with pytest.raises(DamagedFile, match=part.path.name):
            features[row]
    part.path.rename(part.path.with_name(f"damaged-{part.path.name}"))
    np.testing.assert_array_equal(cache[spec].has(digests), ~lost)
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests[~lost])), rows[~lost])
