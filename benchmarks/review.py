"""What `layertap review` finds: flipped labels beside cleanlab's ranking, and copies of pictures.

``labels``: 5 % of the labels of MNIST digits and of Fashion-MNIST are changed at random. Reported are the share of the
changed labels among the first 5 % of the ranking, by review and by cleanlab's two rankings of the same probabilities,
and how much accuracy a training with the suggestions of kind ``label`` accepted regains. Accuracy is that of the
out-of-fold predictions against the true labels.

``copies``: of 200 of 2,000 pictures a mirrored, a cropped (80 % of both sides) and a recompressed copy (quality 60) are
added; what is found is compared with what was added. Pairs of two copies of one picture count as right.

cleanlab is looked for where ``--cleanlab`` says, since it is no dependency:
``pip install --no-deps --target DIR cleanlab termcolor``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import layertap as lt
from benchmarks.real_images import real_images

SHARE = 0.05
COPIED, CROP, QUALITY = 200, 0.8, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("labels", "copies"))
    parser.add_argument("--folder", type=Path, required=True, help="where images, features and copies are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cleanlab", help="folder that cleanlab was installed to")
    args = parser.parse_args()
    if args.cleanlab:
        sys.path.append(args.cleanlab)
    if args.what == "copies":
        copies(args.folder)
        return
    print("| data | seed | review | cleanlab scores | cleanlab issues | clean | flipped | corrected | regained |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ("mnist", "fashion"):
        for seed in args.seeds:
            labels(name, seed, args.folder)


def labels(name: str, seed: int, folder: Path) -> None:
    """Print a line for one data set whose labels are changed by one seed."""
    data = lt.load_dataset(real_images(name, folder))
    pixels, truth = np.load(data.name)["X"], data.labels
    rng, classes = np.random.default_rng(seed), np.unique(truth)
    places = np.sort(rng.choice(len(truth), round(SHARE * len(truth)), replace=False))
    given = truth.copy()
    for place in places:
        given[place] = rng.choice(classes[classes != truth[place]])
    flipped, cache = lt.load_dataset((pixels, given)), folder / "features"

    def trained(dataset: lt.Dataset) -> lt.Run:
        features = lt.extract(dataset, "glyphnet", cache=cache, progress=False)
        return lt.train_head(dataset, features, cv=5, map=None, progress=False)

    run = trained(flipped)
    found = lt.review(run, flipped, cache=cache, progress=False)
    first = np.array([int(image) for image in found.ranking[: len(places)]])
    suggestions = given.copy()
    for finding in found.of_kind("label"):
        suggestions[int(finding.id)] = finding.suggested
    runs = trained(lt.load_dataset((pixels, truth))), run, trained(lt.load_dataset((pixels, suggestions)))
    clean, noisy, corrected = (_accuracy(each, truth) for each in runs)
    theirs = _cleanlab(run, given, len(places))
    shares = [np.isin(places, ranking).mean() for ranking in (first, *theirs)]
    regained = (corrected - noisy) / (clean - noisy)
    numbers = [f"{share:.3f}" for share in shares] + [f"{each:.4f}" for each in (clean, noisy, corrected)]
    print(f"| {name} | {seed} | {' | '.join(numbers)} | {regained:.2f} |", flush=True)


def _accuracy(run: lt.Run, truth: np.ndarray) -> float:
    """Of out-of-fold predictions, against the true labels."""
    held_out = run.held_out
    assert held_out is not None
    return float((np.array(held_out.names)[held_out.outputs.argmax(axis=1)] == truth).mean())


def _cleanlab(run: lt.Run, given: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images by cleanlab's scores of all labels, and by its list of issues, of the same probabilities."""
    from cleanlab.filter import find_label_issues  # no dependency: see above
    from cleanlab.rank import get_label_quality_scores

    held_out = run.held_out
    assert held_out is not None
    labels = np.searchsorted(np.array(held_out.names), given)
    scores = get_label_quality_scores(labels, held_out.outputs)
    issues = find_label_issues(labels, held_out.outputs, return_indices_ranked_by="self_confidence")
    return np.argsort(scores, kind="stable")[:count], issues[:count]


def copies(folder: Path) -> None:
    """Print how many of the copies of pictures are found, and how many of the pairs found are right."""
    from layertap.analysis.near_duplicates import find_near_duplicates
    from layertap.workflows.review import nearest_others, small_grays

    together = folder / "pictures-and-copies"
    _write_copies(real_images("pictures", folder), together)
    data = lt.load_dataset(together)
    features = lt.extract(data, "efficientnetlite0", cache=folder / "features", progress=False)
    [rows] = features.features.values()
    neighbors, _ = nearest_others(rows)
    found = find_near_duplicates(neighbors, small_grays(features.dataset.sources))
    origins = [name.partition("~")[0].removesuffix(".png") for name in data.ids]
    right = [origins[pair.first] == origins[pair.second] for pair in found]
    print(f"precision {np.mean(right):.3f} ({len(right)} pairs)")
    for kind in ("mirror", "crop", "jpeg"):
        added = {place for place, name in enumerate(data.ids) if f"~{kind}." in name}
        met = {place for pair, ok in zip(found, right, strict=True) if ok for place in (pair.first, pair.second)}
        print(f"{kind}: recall {len(added & met) / len(added):.3f}")


def _write_copies(source: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    files, rng = sorted(source.glob("*.png")), np.random.default_rng(0)
    for place in rng.choice(len(files), COPIED, replace=False):
        stamp = Image.open(files[place]).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", stamp.size, "white"), stamp).convert("RGB")
        name, (width, height) = files[place].stem, image.size
        across, down = round(CROP * width), round(CROP * height)
        left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / f"{name}~mirror.png")
        image.crop((left, top, left + across, top + down)).save(folder / f"{name}~crop.png")
        image.save(folder / f"{name}~jpeg.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
