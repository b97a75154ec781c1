"""Anomalies: PatchCore on textures with defects that are made, by a pretrained net and by one with random weights.

    python -m benchmarks.anomalies

The textures are brick, grass and gravel of scikit-image (512 x 512 pixels, CC0). Tiles of each give the normal crops to
learn, the tiles between them the crops to judge, so that no pixel is in both. Half of the latter are left as they are;
the others get a scratch, a blob or a blurred patch. Areas under ROC curves are over images, and over the pixels of all
judged images, as anomalib reports them for MVTec AD.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

import layertap as lt
from benchmarks.setting import setting
from feature_cache.joined import Joined

TEXTURES = ("brick", "grass", "gravel")
SIDE, TILE = 96, 128  # pixels of a crop, and of the tile that it is cut from
LEARNED, JUDGED = 60, 20  # crops to learn, and of each kind to judge; three times as many without a defect
LAYERS = ("block3b_add", "block5c_add")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--net", default="efficientnetlite0")
    parser.add_argument("--layers", nargs=2, default=LAYERS)
    parser.add_argument("--core-sets", nargs="+", type=float, default=[0.1, 0.01])
    args = parser.parse_args()
    print(f"{setting('numpy', 'scikit-learn', 'scikit-image')}; {args.net}, {' and '.join(args.layers)}\n")
    print("| texture | weights | core-set | AUROC | scratch | blob | blur | pixels | fit (s) | per image (ms) |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for texture in TEXTURES:
        with tempfile.TemporaryDirectory() as folder:
            masks = make_data(Path(folder), texture)
            for weights in ("imagenet", "none"):
                for core_set in args.core_sets:
                    print(
                        f"| {texture} | {weights} | {_measured(Path(folder), masks, args, weights, core_set)} |",
                        flush=True,
                    )


def make_data(folder: Path, texture: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Write ``train/good``, ``test/good`` and a folder of ``test`` for each defect; the masks of defects by id."""
    random = np.random.default_rng(seed)
    pixels = getattr(skimage.data, texture)().astype(np.float64)
    masks: dict[str, np.ndarray] = {}
    counts = {"train/good": LEARNED, "test/good": 3 * JUDGED, **{f"test/{defect}": JUDGED for defect in DEFECTS}}
    for where, count in counts.items():
        part, kind = where.split("/")
        (folder / where).mkdir(parents=True)
        for number in range(count):
            crop = _crop(pixels, random, int(part == "test"))
            mask = np.zeros(crop.shape)
            if kind in DEFECTS:
                crop, mask = DEFECTS[kind](crop, random)
            name = f"{where}/{number:03}.png"
            Image.fromarray(np.clip(crop, 0, 255).round().astype(np.uint8)).save(folder / name)
            masks[name.partition("/")[2] if part == "test" else name] = mask > 0.5
    return masks


def _crop(pixels: np.ndarray, random: np.random.Generator, colour: int) -> np.ndarray:
    """A crop of a tile of one colour of a checkerboard, mirrored or not."""
    rows, columns = (size // TILE for size in pixels.shape)
    row = random.integers(rows)
    column = random.choice([number for number in range(columns) if (row + number) % 2 == colour])
    top, left = (TILE * number + random.integers(0, TILE - SIDE + 1) for number in (row, column))
    return pixels[top : top + SIDE, left : left + SIDE][:, :: random.choice([-1, 1])].copy()


def _scratch(crop: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A line of 20 to 50 pixels, 1.5 wide, that is darker or lighter."""
    angle, length = random.uniform(0, np.pi), random.uniform(20, 50)
    row, column = random.uniform(30, SIDE - 30, 2)
    y, x = np.mgrid[:SIDE, :SIDE]
    along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
    across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
    mask = (np.abs(along) < length / 2) & (np.abs(across) < 1.5)
    return crop + gaussian_filter(mask.astype(float), 0.5) * random.choice([-70, 70]), mask


def _blob(crop: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A smooth stain with a radius of 5 to 12 pixels."""
    mask = _disc(random, random.uniform(5, 12))
    return crop + gaussian_filter(mask, 2) * random.choice([-50, 50]), mask


def _blur(crop: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A blurred patch with a radius of 10 to 18 pixels."""
    mask = _disc(random, random.uniform(10, 18))
    soft = gaussian_filter(mask, 2)
    return soft * gaussian_filter(crop, 2) + (1 - soft) * crop, mask


def _disc(random: np.random.Generator, radius: float) -> np.ndarray:
    row, column = random.uniform(20, SIDE - 20, 2)
    y, x = np.mgrid[:SIDE, :SIDE]
    return ((y - row) ** 2 + (x - column) ** 2 < radius**2).astype(float)


DEFECTS = {"scratch": _scratch, "blob": _blob, "blur": _blur}


def _measured(
    folder: Path, masks: dict[str, np.ndarray], args: argparse.Namespace, weights: str, core_set: float
) -> str:
    """The cells of a row: areas under ROC curves, and times without the extraction."""
    learned, judged = (
        lt.extract(
            lt.load_dataset(folder, split=split),
            lt.Net(args.net, weights=weights),
            layers=args.layers,
            pool="none",
            cache=folder / "cache",
            progress=False,
        )
        for split in ("train", "test")
    )
    params = {"core_set": core_set}
    run = lt.train_head(learned.dataset, learned, "patchcore", params=params, valid=0.2, progress=False)
    maps = Joined(list(judged.values()))
    start = time.perf_counter()
    scores = run.head.anomaly_scores(maps)
    seconds = time.perf_counter() - start
    labels = judged.dataset.labels
    areas = [roc_auc_score(labels != "good", scores)]
    for defect in DEFECTS:
        rows = np.isin(labels, ["good", defect])
        areas.append(roc_auc_score(labels[rows] != "good", scores[rows]))
    truth = np.stack([masks[name] for name in judged.dataset.ids])
    areas.append(roc_auc_score(truth.ravel(), run.head.anomaly_maps(maps, truth.shape[1:]).ravel()))
    times = f"{run.config.head.fit_seconds:.1f} | {1000 * seconds / len(truth):.0f}"
    return f"{core_set:g} | " + " | ".join(f"{area:.3f}" for area in areas) + f" | {times}"


if __name__ == "__main__":
    main()
