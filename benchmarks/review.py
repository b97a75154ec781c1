"""What `layertap review` finds: flipped labels beside cleanlab's ranking, and copies of pictures.

``labels``: of 5,000 images, 4,000 are drawn to train on, and 5 % of their labels are changed at random. Reported are
the share of the changed labels among the first 5 % of the ranking, by review and by cleanlab's two rankings of the
same probabilities; how many labels are suggested as wrong, and the share of them that were changed; and the accuracy
on clean test images (the other 1,000, and for clothes 5,000 more) after training with the true labels, with the
changed ones, with all suggestions accepted, and with the first 5 % of the ranking looked at and given their true
labels. The last two columns are the shares of the lost accuracy that these two regain.

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

SHARE, TRAINED = 0.05, 4000
TRAININGS = ("true labels", "changed", "accepted", "checked")
COPIED, CROP, QUALITY = 200, 0.8, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("labels", "copies"))
    parser.add_argument("--folder", type=Path, required=True, help="where images, features and copies are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", choices=("mnist", "fashion"), default=["mnist", "fashion"])
    parser.add_argument("--cleanlab", help="folder that cleanlab was installed to")
    args = parser.parse_args()
    if args.cleanlab:
        sys.path.append(args.cleanlab)
    if args.what == "copies":
        print("| seed | pairs found | precision | recall of mirrored | of cropped | of recompressed |")
        print("|---|---|---|---|---|---|")
        for seed in args.seeds:
            copies(seed, args.folder)
        return
    names = ("changed in the first 5 %", "cleanlab scores", "cleanlab issues", "suggested", "of them changed")
    print(f"| data | seed | {' | '.join((*names, *TRAININGS))} | regained by accepting | by checking |")
    print("|---" * (len(names) + len(TRAININGS) + 4) + "|")
    for name in args.data:
        lines = []
        for seed in args.seeds:
            lines.append(labels(name, seed, args.folder))
            _print_line(name, str(seed), lines[-1])
        if len(lines) > 1:
            _print_line(name, "mean", np.mean(lines, axis=0))


def labels(name: str, seed: int, folder: Path) -> np.ndarray:
    """What is found and regained in one data set whose labels are changed by one seed: all columns but the last two."""
    pixels, truth = _arrays(name, folder)
    rng, classes = np.random.default_rng(seed), np.unique(truth)
    order = rng.permutation(len(truth))
    train, test = np.sort(order[:TRAINED]), np.sort(order[TRAINED:])
    clean = (pixels[test], truth[test])
    if name == "fashion":
        clean = tuple(np.concatenate(both) for both in zip(clean, _arrays("fashion-rest", folder), strict=True))
    pixels, truth, test_set = pixels[train], truth[train], lt.load_dataset(clean)
    places = np.sort(rng.choice(TRAINED, round(SHARE * TRAINED), replace=False))
    given = truth.copy()
    for place in places:
        given[place] = rng.choice(classes[classes != truth[place]])
    flipped, cache = lt.load_dataset((pixels, given)), folder / "features"

    def trained(dataset: lt.Dataset) -> lt.Run:
        features = lt.extract(dataset, "glyphnet", cache=cache, progress=False)
        return lt.train_head(dataset, features, cv=5, map=None, seed=seed, progress=False)

    run = trained(flipped)
    found = lt.review(run, flipped, cache=cache, progress=False)
    first = np.array([int(image) for image in found.ranking[: len(places)]])
    suggested = {int(finding.id): finding.suggested for finding in found.of_kind("label")}
    accepted, checked = given.copy(), given.copy()
    for place, label in suggested.items():
        accepted[place] = label
    checked[first] = truth[first]
    others = (trained(lt.load_dataset((pixels, labels))) for labels in (truth, accepted, checked))
    with_truth, with_accepted, with_checked = others
    shares = [np.isin(places, ranking).mean() for ranking in (first, *_cleanlab(run, given, len(places)))]
    accuracies = [
        lt.evaluate(each, test_set, cache=cache, progress=False).scores["accuracy"]
        for each in (with_truth, run, with_accepted, with_checked)
    ]
    return np.array([*shares, len(suggested), np.isin(list(suggested), places).mean(), *accuracies])


def _arrays(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images of a data set, and their labels as texts."""
    with np.load(real_images(name, folder)) as arrays:
        return arrays["X"], arrays["y"].astype(str)


def _print_line(name: str, seed: str, numbers: np.ndarray) -> None:
    clean, flipped, accepted, checked = numbers[-len(TRAININGS) :]
    columns = [f"{share:.3f}" for share in numbers[:3]] + [f"{numbers[3]:.0f}", f"{numbers[4]:.3f}"]
    columns += [f"{accuracy:.4f}" for accuracy in numbers[5:]]
    columns += [f"{(each - flipped) / (clean - flipped):.2f}" for each in (accepted, checked)]
    print(f"| {name} | {seed} | {' | '.join(columns)} |", flush=True)


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


def copies(seed: int, folder: Path) -> None:
    """Print how many of the copies of pictures are found, and how many of the pairs found are right."""
    from layertap.analysis.near_duplicates import find_near_duplicates
    from layertap.workflows.review import nearest_others, small_grays

    together = folder / "pictures-and-copies"
    _write_copies(real_images("pictures", folder), together, seed)
    data = lt.load_dataset(together)
    features = lt.extract(data, "efficientnetlite0", cache=folder / "features", progress=False)
    [rows] = features.features.values()
    neighbors, _ = nearest_others(rows)
    found = find_near_duplicates(neighbors, small_grays(features.dataset.sources))
    origins = [image.partition("~")[0].removesuffix(".png") for image in data.ids]
    right = [origins[pair.first] == origins[pair.second] for pair in found]
    met = {place for pair, ok in zip(found, right, strict=True) if ok for place in (pair.first, pair.second)}
    columns = [f"{len(right)}", f"{np.mean(right):.3f}"]
    for kind in ("mirror", "crop", "jpeg"):
        added = {place for place, image in enumerate(data.ids) if f"~{kind}." in image}
        columns.append(f"{len(added & met) / len(added):.3f}")
    print(f"| {seed} | {' | '.join(columns)} |", flush=True)
    for pair, ok in zip(found, right, strict=True):
        if not ok:
            print(f"wrong: {data.ids[pair.first]} {data.ids[pair.second]} ({pair.how})", file=sys.stderr)


def _write_copies(source: Path, folder: Path, seed: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    files, rng = sorted(source.glob("*.png")), np.random.default_rng(seed)
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
