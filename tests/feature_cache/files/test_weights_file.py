"""Files of weights that somebody else made: what they declare and refer to is checked before Keras reads them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache.errors import UnsafeFile
from feature_cache.files.weights_file import check_file


def bomb(store: h5py.File) -> None:
    store.create_dataset("layers/vars/1", (2**16, 2**18), "f4", chunks=(64, 2**18), compression="gzip", fillvalue=1)


def absurd(store: h5py.File) -> None:
    store.create_dataset("layers/vars/1", (2**40,), "f8", chunks=(1024,))


def soft_link(store: h5py.File) -> None:
    store["layers/vars/1"] = h5py.SoftLink("/layers/vars/1")


def external_link(store: h5py.File) -> None:
    store["layers/vars/1"] = h5py.ExternalLink("other.h5", "/x")


def external_data(store: h5py.File) -> None:
    store.create_dataset("layers/vars/1", (4,), "f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)])


def virtual(store: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", (4,))
    store.create_virtual_dataset("layers/vars/1", layout)


TRAPS = {
    bomb: "far more numbers",
    absurd: "far more numbers",
    soft_link: "a link to another place",
    external_link: "a link to another place",
    external_data: "from another file",
    virtual: "from another file",
}


def weights(file: Path, trap: Callable[[h5py.File], None] | None = None) -> bytes:
    with h5py.File(file, "w", userblock_size=512 if file.suffix == ".bin" else 0) as store:
        store.create_dataset("layers/vars/0", data=np.arange(300, dtype="f4"))
        store["again"] = store["/"]  # a circle is no trap: each group is looked at once
        if trap is not None:
            trap(store)
    return file.read_bytes()


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
@pytest.mark.parametrize("kind", ["alone", "behind 512 bytes", "stored", "compressed", "beside an archive"])
def test_traps_are_found_wherever_the_weights_are(tmp_path: Path, trap: Callable[[h5py.File], None], kind: str) -> None:
    file = tmp_path / ("behind.bin" if "behind" in kind else "w.h5")
    plain = weights(tmp_path / "plain.h5")
    content = weights(file, trap)
    if kind in ("stored", "compressed"):
        file = tmp_path / "net.keras"
        packing = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(file, "w", packing) as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("plain.h5", plain)
            archive.writestr("model.weights.h5", content)
    elif kind == "beside an archive":
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("plain.h5", plain)
    with pytest.raises(UnsafeFile, match=TRAPS[trap]):
        check_file(file)


@pytest.mark.parametrize("packing", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_plain_weights_pass(tmp_path: Path, packing: int | None) -> None:
    file = tmp_path / "w.h5"
    content = weights(file)
    if packing is not None:
        with zipfile.ZipFile(file, "w", packing) as archive:
            archive.writestr("model.weights.h5", content)
    check_file(file)


def test_an_archive_of_arrays_that_grows_out_of_proportion_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.npz", "w", zipfile.ZIP_DEFLATED) as arrays, arrays.open("a.npy", "w") as part:
        for _ in range(80):
            part.write(bytes(2**20))
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.write(tmp_path / "in.npz", "model.weights.npz")
    with pytest.raises(UnsafeFile, match="unpack to far more"):
        check_file(tmp_path / "net.keras")
