"""Kinds of files by their first bytes, and what images, tables and nets make of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from feature_cache.errors import BadImage
from transfer.data import tables
from transfer.data.images import FileSource
from transfer.file_signatures import AVIF_BRANDS, HEIF_BRANDS, kind_by_signature, media_brand
from transfer.nets.files import kinds


@pytest.mark.parametrize("suffix", ["png", "jpeg", "gif", "tiff"])
def test_images_that_pillow_writes_are_known(tmp_path: Path, suffix: str) -> None:
    Image.new("L", (3, 2)).save(tmp_path / f"a.{suffix}")
    assert kind_by_signature((tmp_path / f"a.{suffix}").read_bytes()) == suffix.upper()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", None),
        (b"id,class\n", None),
        (b"PK\x03\x04rest", "ZIP"),
        (b"\x89HDF\r\n\x1a\nrest", "HDF5"),
        (b"\xef\xbb\xbf\n <HTML lang='en'>", "HTML"),
        (b"<?xml version='1.0'?>", "XML"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"\x80\x04\x95", "pickle"),
    ],
)
def test_kinds(head: bytes, kind: str | None) -> None:
    assert kind_by_signature(head) == kind


def test_brands_tell_images_from_videos() -> None:
    assert media_brand(bytes(4) + b"ftypheic" + bytes(8)) in HEIF_BRANDS
    assert media_brand(bytes(4) + b"ftypavif" + bytes(8)) in AVIF_BRANDS
    assert media_brand(bytes(4) + b"ftypisom" + bytes(8)) == b"isom"
    assert media_brand(b"\x89PNG\r\n\x1a\n....") == b""


def test_images_tables_and_nets_name_the_same_kind_in_their_own_words(tmp_path: Path) -> None:
    for name in ("a.png", "a.csv", "a.keras"):
        (tmp_path / name).write_bytes(b"\x1f\x8b\x08" + bytes(60))
    with pytest.raises(BadImage, match=r"a\.png is a gzip file"):
        FileSource(tmp_path / "a.png").load()
    assert tables.other_kind(tmp_path / "a.csv") == "compressed by gzip; unpack it first"
    assert kinds.kind_of(tmp_path / "a.keras") == "a gzip archive"
