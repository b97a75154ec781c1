"""Samples as WebDataset has them: the files of one sample have one key, ``0001.jpg`` and ``0001.cls``.

A key is the path up to the first dot of the file's name, and what follows the dot says what the file is. The label of a
sample is its file ``.cls``, or a field of its file ``.json``. Files ``.txt``, which are captions, are passed over.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData, printable
from transfer.data.containers.archive_folder import Archive
from transfer.data.containers.loading import ArchiveFile
from transfer.data.containers.member_sources import MemberSources, in_one, joined
from transfer.data.containers.packed_names import PackedNames
from transfer.data.folders.file_names import IMAGE_SUFFIXES, counted, litter

LARGEST_LABEL = 2**20  # bytes
_LABELS = ("cls", "cls2", "json")


@dataclass
class Samples:
    """The images of archives of samples.

    Attributes
    ----------
    ids : PackedNames
        The keys; where there are several archives, with the name of the archive before them.
    sources : MemberSources
    labels : ndarray of shape (n,), str, or None
    notes : list of str
    """

    ids: PackedNames
    sources: MemberSources
    labels: np.ndarray | None
    notes: list[str]


def holds_samples(archive: Archive) -> bool:
    """Whether images of an archive come with a label of the same key."""
    kinds: dict[str, set[str]] = {}
    for name in archive.names[:1000]:
        key, ending = _parts(name)
        kinds.setdefault(key, set()).add(ending)
    return any(_image(endings) and endings & {*_LABELS, "txt"} for endings in kinds.values())


def read_samples(archives: Sequence[tuple[str, ArchiveFile]], class_column: str) -> Samples:
    """The samples of archives, in their order.

    Parameters
    ----------
    archives : sequence of (str, ZipArchive or TarArchive)
        Each with what comes before its keys in the ids.
    class_column : str
        The field of the ``.json`` files that is the label.

    Raises
    ------
    BadData
        When a sample has several images, or some samples have no label.
    """
    ids = PackedNames()
    parts: list[MemberSources] = []
    labels: list[str | None] = []
    texts: dict[str | None, str | None] = {}  # one of each label, not one for each sample
    others: Counter[str] = Counter()
    for prefix, archive in archives:
        positions: list[int] = []
        for key, files in _by_key(archive).items():
            image = _image(files.keys())
            if image is None:
                others.update(f".{ending}" for ending in files)
                continue
            others.update(f".{ending}" for ending in files if ending != image and ending not in _LABELS)
            ids.append(prefix + key)
            positions.append(files[image])
            label = _label(archive, key, files, class_column)
            labels.append(texts.setdefault(label, label))
        parts.append(in_one(archive.only(np.array(positions, np.int64)), np.arange(len(positions))))  # no label again
    if not ids:
        raise BadData(f"{archives[0][1]} holds no images.")
    found = Samples(ids, joined(parts), None, [])
    missing = [number for number, label in enumerate(labels) if label is None]
    if len(missing) < len(labels):
        if missing:
            raise BadData(
                f"{len(missing)} of {len(labels)} samples have no label, the first is {found.ids[missing[0]]!r}; give "
                "them a file .cls, or leave them out."
            )
        found.labels = np.array(labels)
    if others:
        found.notes.append(f"passed over beside the images of {archives[0][1]}: {counted(others)}.")
    return found


def _by_key(archive: Archive) -> dict[str, dict[str, int]]:
    """The positions of the files of each key, by what follows the key."""
    samples: dict[str, dict[str, int]] = {}
    for position, name in enumerate(archive.names):
        if any(map(litter, name.split("/"))):
            continue
        key, ending = _parts(name)
        files = samples.setdefault(key, {})
        if ending in files:
            raise BadData(f"{archive} holds two files .{ending} of the key {printable(key)!r}; keep one of them.")
        files[ending] = position
    return samples


def _parts(name: str) -> tuple[str, str]:
    """The key of a file and what follows it, in small letters."""
    folder, slash, last = name.rpartition("/")
    key, _, ending = last.partition(".")
    return folder + slash + key, ending.lower()


def _image(endings: Iterable[str]) -> str | None:
    """The ending of the image of a sample: the shortest, where there are several, such as jpg and seg.png."""
    images = [ending for ending in endings if "." + ending.rpartition(".")[2] in IMAGE_SUFFIXES]
    return min(images, key=lambda ending: (ending.count("."), len(ending), ending), default=None)


def _label(archive: Archive, key: str, files: dict[str, int], class_column: str) -> str | None:
    for ending in _LABELS:
        if ending not in files:
            continue
        position = files[ending]
        try:
            if archive.size(position) > LARGEST_LABEL:
                raise ValueError("it is too large for a label")
            text = archive.read(position).decode()
            if ending != "json":
                return text.strip() or None
            fields = json.loads(text)
            value = fields.get(class_column) if isinstance(fields, dict) else None
            if isinstance(value, str | int):
                return str(value)
        except (OSError, ValueError, RecursionError) as error:
            raise BadData(f"the label {archive.name(position)} cannot be read: {error}.") from error
    return None
