"""Quantised nets that a cache keeps beside the features that they have computed, and what identifies them.

A quantised net cannot be made again once some of the images are gone that it was calibrated on, and another one would
give other numbers. It is kept until no space of the cache names it. It lies in the folder ``.nets`` of the cache, in a
folder with the name of its digest: the net, and the document `DOCUMENT`, which states the digests of the files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import DamagedFile, MissingFeatures, StorageFailure, one_line
from feature_cache.files.atomic import new_folder, replacement, sync_folder
from feature_cache.files.checked import open_regular, read_json
from feature_cache.files.sealed_folder import file_digest, require_unaltered, seal
from feature_cache.remote import storage
from feature_cache.segments.layout import NETS_FOLDER

NET, WEIGHTS, DOCUMENT = "net.xml", "net.bin", "calibration.json"
DIGITS = 16  # of the digests in a calibration
_CALIBRATION = re.compile(rf"(\d+)-(\d+)-([0-9a-f]{{{DIGITS}}})-([0-9a-f]{{{DIGITS}}})")
_REMEDY = "name the cache that has it with `cache`, or take it over from there: layertap cache merge"


@dataclass(frozen=True)
class Calibration:
    """What identifies a quantised net, and with it the features that it computes.

    Attributes
    ----------
    count : int
        The number of images that it was calibrated on.
    seed : int
        The seed that chose them among those that there were.
    images : str
        Their digest: the start of the SHA-256 of the sorted digests of the images.
    net : str
        The start of the SHA-256 of the weights and ranges of the net.

    Examples
    --------
    >>> str(Calibration(300, 0, "0" * 16, "f" * 16))
    '300-0-0000000000000000-ffffffffffffffff'
    """

    count: int
    seed: int
    images: str
    net: str

    def __str__(self) -> str:
        return f"{self.count}-{self.seed}-{self.images}-{self.net}"

    @classmethod
    def parse(cls, text: str) -> Calibration:
        """The calibration of a spec.

        Raises
        ------
        DamagedFile
            When `text` is not one.
        """
        if not (match := _CALIBRATION.fullmatch(text)):
            raise DamagedFile(f"{text[:80]!r} is not the calibration of a quantised net.")
        return cls(int(match[1]), int(match[2]), match[3], match[4])


def images_digest(digests: np.ndarray) -> str:
    """The digest of a set of images, whatever their order.

    Parameters
    ----------
    digests : ndarray of shape (n, 16), uint8
    """
    ordered = sorted(row.tobytes() for row in digests)
    return hashlib.sha256(b"".join(ordered)).hexdigest()[:DIGITS]


def keep(root: Path, made: Path, content: dict[str, Any], *, count: int, seed: int, images: str) -> Calibration:
    """Keep a quantised net in the cache at `root`, and return what identifies it.

    Parameters
    ----------
    made : Path
        The folder with its files.
    content : dict
        What else is to be known of it, as JSON can hold it.

    Raises
    ------
    StorageFailure
        When there is no room for it.
    """
    calibration = Calibration(count, seed, images, file_digest(made / WEIGHTS)[:DIGITS])
    place = root / NETS_FOLDER / calibration.net
    if not (place / DOCUMENT).is_file():  # others may be those of an upload that was killed
        _put(place, made, content)
    _share(place)
    return calibration


def _share(place: Path) -> None:
    """Let a net be here and in the bucket of a cache that is elsewhere, wherever it is missing; the document last."""
    for name in (NET, WEIGHTS, DOCUMENT):
        if (place / name).is_file():
            storage.share(place / name)
        else:
            storage.bring(place / name)


def _put(place: Path, made: Path, content: dict[str, Any] | None) -> None:
    """Copy the folder of a net to its place, with a new document that has `content`, or with its own."""
    try:
        new_folder(place.parent)
        with replacement(place) as temporary:
            temporary.mkdir()
            for name in (NET, WEIGHTS, *([DOCUMENT] if content is None else [])):
                with open_regular(made / name) as source, (temporary / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy, 2**20)
                    copy.flush()
                    os.fsync(copy.fileno())
            if content is not None:
                seal(temporary, DOCUMENT, content)
            sync_folder(temporary)
        sync_folder(place.parent)
    except OSError as error:
        if (place / DOCUMENT).is_file():  # another process has put it there
            return
        raise StorageFailure(f"cannot keep the quantised net in {place}: {error.strerror or error}.") from error


def kept(root: Path, calibration: str) -> bool:
    """Whether the cache at `root` has this net."""
    place = root / NETS_FOLDER / Calibration.parse(calibration).net
    _share(place)
    return (place / DOCUMENT).is_file()


def document(root: Path, calibration: str) -> dict[str, Any]:
    """The content of the document of a quantised net.

    Raises
    ------
    MissingFeatures
        When the cache does not have it.
    DamagedFile
        When it cannot be read.
    """
    folder = root / NETS_FOLDER / Calibration.parse(calibration).net
    if not kept(root, calibration):
        raise MissingFeatures(
            f"the quantised net {calibration} of these features is not in {storage.shown(root)}, and no other gives "
            f"the same numbers; {_REMEDY}."
        )
    try:
        content = read_json(folder / DOCUMENT)
        if not isinstance(content, dict):
            raise ValueError("it is no document of a net")
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{folder / DOCUMENT} cannot be read ({one_line(error)}); {_REMEDY}.") from error
    return content


def read(root: Path, calibration: str) -> tuple[Path, dict[str, Any]]:
    """The file of a quantised net, and the content of its document; all its files are checked.

    Raises
    ------
    MissingFeatures
        When the cache does not have it.
    DamagedFile
        When a file of it was altered.
    """
    content = document(root, calibration)
    folder = root / NETS_FOLDER / Calibration.parse(calibration).net
    try:
        require_unaltered(folder, content, _REMEDY)
    except ValueError as error:
        if isinstance(error, DamagedFile):
            raise
        raise DamagedFile(f"{folder / DOCUMENT} cannot be read ({error}); {_REMEDY}.") from error
    return folder / NET, content


def copy(source: Path, target: Path, calibration: str) -> None:
    """Copy a quantised net from one cache to another, unless that has it, or the first one lacks it.

    Raises
    ------
    DamagedFile
        When a file of it was altered.
    StorageFailure
        When there is no room for it.
    """
    if kept(source, calibration) and not kept(target, calibration):
        file, _ = read(source, calibration)
        _put(target / NETS_FOLDER / file.parent.name, file.parent, None)
        _share(target / NETS_FOLDER / file.parent.name)


def files_of_others(root: Path, calibrations: set[str]) -> list[list[Path]]:
    """The files of each net in the cache that none of these calibrations names."""
    named = {text.rpartition("-")[2] for text in calibrations}
    return [
        [folder / name for name in (NET, WEIGHTS, DOCUMENT) if storage.exists(folder / name)]
        for folder in storage.folders(root / NETS_FOLDER)
        if folder.name not in named and not folder.name.startswith(".")
    ]
