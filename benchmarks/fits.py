"""How images of other proportions are fitted to a net's input, and what padding fills with: the evidence for `--fit`.

Run: python -m benchmarks.fits --folder FOLDER. The images are drawings of eight subjects (`benchmarks.real_images`), on
white and on black, and oblong pieces of 17 photographs, by photograph, as they are and at 0.3 of their brightness. The
default head reads the last layer of EfficientNet-Lite0; all ways have the same draws of labels.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.real_images import PHOTOGRAPHS, real_images
from benchmarks.setting import setting

SIDE, LAYER = 224, "top_activation"
DATA = ("stamps", "stamps on black", "crops", "dark crops")
WAYS = ("stretch", "crop", "black", "gray", "white", "mean", "edge", "edges", "replicate", "reflect")
OF_A_PHOTOGRAPH = 45
Labelled = tuple[Image.Image, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of data sets and features")
    parser.add_argument("--data", nargs="*", choices=DATA, default=list(DATA))
    parser.add_argument("--per-class", type=int, nargs="*", default=[2, 5, 20], help="labels of a class")
    parser.add_argument("--draws", type=int, default=8, help="(default: 8)")
    args = parser.parse_args()
    print(setting("numpy", "scikit-learn"), end="")
    print(f"; `{' '.join(['python -m benchmarks.fits', *sys.argv[1:]])}`\n", flush=True)
    print(f"| images | labels of a class | {' | '.join(WAYS)} |\n|{'---|' * (len(WAYS) + 2)}")
    for name in args.data:
        features, y = features_of(args.folder, name)
        for count in args.per_class:
            means = [f"{100 * accuracy(features[way], y, count, args.draws):.1f}" for way in WAYS]
            print(f"| {name} | {count} | {' | '.join(means)} |", flush=True)


def features_of(folder: Path, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The features of images that are fitted in each way, of shape (n, d), and their classes."""
    import layertap as lt

    kept = folder / "fits"
    kept.mkdir(exist_ok=True)
    images, labels = zip(*images_of(folder, name), strict=True)
    features = {}
    for way in WAYS:
        file = kept / f"{name}-{way}.npy"
        if not file.exists():
            np.savez(kept / "now.npz", X=np.stack([fitted(image, way) for image in images]), y=np.array(labels))
            found = lt.extract(
                lt.load_dataset(kept / "now.npz"), "efficientnetlite0", layers=LAYER, cache=kept, progress=False
            )
            np.save(file, found[LAYER][:])
        features[way] = np.load(file)
    return features, np.array(labels)


def images_of(folder: Path, name: str) -> Iterator[Labelled]:
    """The images of a data set, in RGB, with their classes."""
    if name.startswith("stamps"):
        for file in sorted(real_images("stamps", folder).rglob("*.png")):
            stamp = Image.open(file).convert("RGBA")
            paper = Image.new("RGBA", stamp.size, "black" if name.endswith("black") else "white")
            paper.alpha_composite(stamp)
            yield paper.convert("RGB"), file.parent.name
        return
    rng = np.random.default_rng(0)
    for package, names in PHOTOGRAPHS.items():
        spec = find_spec(package)
        assert spec and spec.submodule_search_locations, f"{package} is not installed"
        for photograph in names.split():
            whole = Image.open(Path(spec.submodule_search_locations[0]) / photograph).convert("RGB")
            for _ in range(OF_A_PHOTOGRAPH):
                piece = _piece(whole, rng)
                if name.startswith("dark"):
                    piece = Image.fromarray((np.asarray(piece) * 0.3).astype(np.uint8))
                yield piece, photograph


def _piece(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A piece whose shorter side has 24 to 48 pixels, and whose longer side is 1.2 to 4 times as long."""
    short, ratio = rng.uniform(24, 48), np.exp(rng.uniform(0.2, np.log(4)))
    width, height = (short * ratio, short) if rng.random() < 0.5 else (short, short * ratio)
    width, height = min(int(width), photograph.width), min(int(height), photograph.height)
    left, top = rng.integers(photograph.width - width + 1), rng.integers(photograph.height - height + 1)
    return photograph.crop((left, top, left + width, top + height))


def fitted(image: Image.Image, way: str) -> np.ndarray:
    """The pixels of an image at the size of the net's input."""
    if way == "stretch":
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    if way == "crop":
        return np.asarray(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BILINEAR))
    pixels = np.asarray(ImageOps.contain(image, (SIDE, SIDE), Image.Resampling.BILINEAR))
    height, width = pixels.shape[:2]
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    rest = (top, SIDE - height - top), (left, SIDE - width - left), (0, 0)
    if way in ("replicate", "reflect"):
        return np.pad(pixels, rest, mode="edge" if way == "replicate" else "symmetric")
    out = np.zeros((SIDE, SIDE, 3), np.uint8)
    first, last = (pixels[:, 0], pixels[:, -1]) if width < SIDE else (pixels[0], pixels[-1])
    if way in ("gray", "white"):
        out[:] = 127 if way == "gray" else 255
    elif way == "mean":
        out[:] = pixels.mean((0, 1)).round()
    elif way == "edge":  # each bar has the colour of its own edge
        before, after = (out[:, :left], out[:, left:]) if width < SIDE else (out[:top], out[top:])
        before[:], after[:] = first.mean(0).round(), last.mean(0).round()
    elif way == "edges":
        out[:] = ((first.mean(0) + last.mean(0)) / 2).round()
    out[top : top + height, left : left + width] = pixels
    return out


def accuracy(X: np.ndarray, y: np.ndarray, count: int, draws: int) -> float:
    """The mean accuracy of the default head on all other images, over draws of labels."""
    from heads.registry import make_head

    accuracies = []
    for draw in range(draws):
        order = np.random.default_rng((count, draw)).permutation(len(y))
        train = np.sort(np.concatenate([order[y[order] == label][:count] for label in np.unique(y)]))
        held_out = np.setdiff1d(np.arange(len(y)), train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that have not converged
            head = make_head("auto").fit(X[train], y[train])
        accuracies.append(np.mean(head.predict(X[held_out]) == y[held_out]))
    return float(np.mean(accuracies))


if __name__ == "__main__":
    main()
