"""Anomalies: PatchCore on textures with defects that are made, by a pretrained net and by one with random weights.

    python -m benchmarks.anomalies --pictures shown

The textures are brick, grass and gravel of scikit-image (512 x 512 pixels, CC0), each divided into four quarters. Crops
of two quarters on a diagonal are learned, crops of the other two are judged, so that no pixel is in both. Some of the
latter are left as they are; the others get a defect as MVTec AD has them: a scratch, a cut, a patch of another
texture, or a stain of colour. Areas under ROC curves are over images, and over the pixels of all judged images, as
anomalib reports them for MVTec AD.
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
from heads.anomalies.patchcore import PatchCore

TEXTURES = ("brick", "grass", "gravel")
SIDE, QUARTER = 128, 256  # pixels of a crop, and of the quarter of a texture that it is cut from
LEARNED, GOOD, EACH = 60, 40, 20  # crops to learn, crops to judge without a defect, and with each defect
LAYERS = ("block3b_add", "block5c_add")
MARGIN = 28  # between the border of a crop and the centre of a defect
GRAY_LEVELS = 90  # by which a scratch differs from what it runs over
DARK = 20.0  # the gray level of a cut
TINTS = ((1.0, 0.45, 0.4), (0.4, 0.55, 1.0), (0.5, 0.9, 0.4))  # what red, blue and green stains let through
SHOWN = 6  # pictures of each kind


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--net", default="efficientnetlite0")
    parser.add_argument("--layers", nargs=2, default=LAYERS)
    parser.add_argument("--core-set", type=float, help="as the head's parameter")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where pictures of crops and heat maps are put")
    args = parser.parse_args()
    print(f"{setting('numpy', 'scikit-learn', 'scikit-image')}; {args.net}, {' and '.join(args.layers)}\n")
    print(f"| texture | weights | AUROC | {' | '.join(DEFECTS)} | pixels | fit (s) | per image (ms) |")
    print("|---|---|" + "---:|" * (len(DEFECTS) + 4))
    for texture in TEXTURES:
        with tempfile.TemporaryDirectory() as folder:
            masks = make_data(Path(folder), texture)
            for weights in ("imagenet", "none"):
                print(
                    f"| {texture} | {weights} | {_measured(Path(folder), texture, masks, args, weights)} |", flush=True
                )


def make_data(folder: Path, texture: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Write ``train/good``, ``test/good`` and a folder of ``test`` for each defect; the masks of ``test`` by id."""
    random = np.random.default_rng(seed)
    pixels = _texture(texture)
    other = _texture(TEXTURES[TEXTURES.index(texture) - 1])
    masks: dict[str, np.ndarray] = {}
    counts = {"train/good": LEARNED, "test/good": GOOD, **{f"test/{defect}": EACH for defect in DEFECTS}}
    for where, count in counts.items():
        part, kind = where.split("/")
        (folder / where).mkdir(parents=True)
        for number in range(count):
            crop = _crop(pixels, random, int(part == "test"))
            mask = np.zeros((SIDE, SIDE))
            if kind in DEFECTS:
                crop, mask = DEFECTS[kind](crop, _crop(other, random, 0), random)
            name = f"{kind}/{number:03}.png"
            Image.fromarray(np.clip(crop, 0, 255).round().astype(np.uint8)).save(folder / part / name)
            if part == "test":
                masks[name] = mask > 0.5
    return masks


def _texture(name: str) -> np.ndarray:
    """The texture in gray, as three equal colours."""
    gray = getattr(skimage.data, name)().astype(np.float64)
    return np.repeat(gray[..., None], 3, axis=2)


def _crop(pixels: np.ndarray, random: np.random.Generator, diagonal: int) -> np.ndarray:
    """A crop of one of the two quarters on a diagonal, mirrored or not."""
    row = int(random.integers(2))
    column = (row + diagonal) % 2
    top, left = (QUARTER * number + random.integers(0, QUARTER - SIDE + 1) for number in (row, column))
    return pixels[top : top + SIDE, left : left + SIDE][:, :: random.choice([-1, 1])].copy()


Changed = tuple[np.ndarray, np.ndarray]  # a crop with a defect, and the mask of the defect


def _scratch(crop: np.ndarray, other: np.ndarray, random: np.random.Generator) -> Changed:
    """An arc of 40 to 80 pixels, 3 wide, that is darker or lighter."""
    across, along = _axes(random)
    mask = _stroke(across + along**2 / random.choice([-150, 150]), along, random.uniform(40, 80), 3)
    soft = gaussian_filter(mask, 0.5)[..., None]
    return crop + soft * random.choice([-GRAY_LEVELS, GRAY_LEVELS]), mask


def _cut(crop: np.ndarray, other: np.ndarray, random: np.random.Generator) -> Changed:
    """A dark gap of 30 to 50 pixels, 7 wide, with a light edge."""
    across, along = _axes(random)
    length = random.uniform(30, 50)
    gap, whole = (_stroke(across, along, length + 2 * edge, 7 + 2 * edge) for edge in (0, 1))
    soft = gaussian_filter(gap, 0.5)[..., None]
    lighter = crop + GRAY_LEVELS * gaussian_filter(whole, 0.5)[..., None]
    return soft * DARK + (1 - soft) * lighter, whole


def _patch(crop: np.ndarray, other: np.ndarray, random: np.random.Generator) -> Changed:
    """An uneven blob of another texture with a radius of 12 to 20 pixels."""
    mask = _blob(random)
    soft = gaussian_filter(mask, 1)[..., None]
    return soft * other + (1 - soft) * crop, mask


def _stain(crop: np.ndarray, other: np.ndarray, random: np.random.Generator) -> Changed:
    """An uneven blob with a radius of 12 to 20 pixels, as if seen through coloured glass."""
    mask = _blob(random)
    soft = gaussian_filter(mask, 1.5)[..., None]
    return crop * (1 - soft * (1 - np.array(TINTS[random.integers(len(TINTS))]))), mask


def _axes(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel is from a random centre, across and along a random direction."""
    row, column = random.uniform(MARGIN, SIDE - MARGIN, 2)
    angle = random.uniform(0, np.pi)
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([row, column])[:, None, None]
    return y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)


def _stroke(across: np.ndarray, along: np.ndarray, length: float, width: float) -> np.ndarray:
    return ((np.abs(along) < length / 2) & (np.abs(across) < width / 2)).astype(float)


def _blob(random: np.random.Generator) -> np.ndarray:
    """A disc whose radius varies with the angle."""
    across, along = _axes(random)
    angle = np.arctan2(across, along)
    waves = sum(random.uniform(-0.12, 0.12) * np.cos(number * angle) for number in (2, 3, 5))
    return (np.hypot(across, along) < random.uniform(12, 20) * (1 + waves)).astype(float)


DEFECTS = {"scratch": _scratch, "cut": _cut, "patch": _patch, "stain": _stain}


def _measured(folder: Path, texture: str, masks: dict[str, np.ndarray], args: argparse.Namespace, weights: str) -> str:
    """The cells of a row: areas under ROC curves, and times without the extraction."""
    learned, judged = (
        lt.extract(
            lt.load_dataset(folder / split),
            lt.Net(args.net, weights=weights),
            layers=args.layers,
            pool="none",
            cache=folder / "cache",
            progress=False,
        )
        for split in ("train", "test")
    )
    start = time.perf_counter()
    head = PatchCore(core_set=args.core_set).fit(Joined(list(learned.values())))
    fitted = time.perf_counter()
    maps = Joined(list(judged.values()))
    scores = head.anomaly_scores(maps)
    seconds = time.perf_counter() - fitted
    labels = judged.dataset.labels
    areas = [roc_auc_score(labels != "good", scores)]
    for defect in DEFECTS:
        rows = np.isin(labels, ["good", defect])
        areas.append(roc_auc_score(labels[rows] != "good", scores[rows]))
    truth = np.stack([masks[name] for name in judged.dataset.ids])
    heat = head.anomaly_maps(maps, truth.shape[1:])
    areas.append(roc_auc_score(truth.ravel(), heat.ravel()))
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        crops = [np.asarray(Image.open(folder / "test" / name)) for name in judged.dataset.ids]
        shown = _pictures(crops, heat, labels)
        Image.fromarray(shown).save(args.pictures / f"{texture}-{weights}.png")
    times = f"{fitted - start:.1f} | {1000 * seconds / len(truth):.0f}"
    return " | ".join(f"{area:.3f}" for area in areas) + f" | {times}"


def _pictures(crops: list[np.ndarray], heat: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A row for each kind of images: crops, and beside each the heat, from 0.4 of the threshold to 1.2."""
    rows = []
    for kind in ("good", *DEFECTS):
        row = []
        for position in np.flatnonzero(labels == kind)[:SHOWN]:
            gray = np.clip((heat[position] - 0.4) / 0.8 * 255, 0, 255).astype(np.uint8)
            row += [crops[position], np.repeat(gray[..., None], 3, axis=2)]
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
