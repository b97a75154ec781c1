"""`layertap.review`: labels that are likely wrong, ambiguous images, copies, near-duplicates and outliers of a run."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import BadData, BadImage, InvalidChoice
from feature_cache.files.atomic import new_file
from feature_cache.files.digest_list import digest_keys
from feature_cache.joined import Joined
from layertap.analysis.label_issues import NEIGHBORS, LabelIssues, ambiguity, find_label_issues
from layertap.analysis.near_duplicates import SIDE, find_near_duplicates
from layertap.analysis.outliers import outlier_scores
from layertap.held_out import HeldOut
from layertap.progress import ProgressBar, progress_bars
from layertap.runs import Run, load_run
from layertap.workflows.extract import extract_features
from layertap.workflows.load_dataset import Source, load_again, load_dataset
from layertap.workflows.training.targets import CLASSES
from transfer.data.corrections import ACTION, DROP, ID, KEEP, LABEL, RELABEL, Corrections, Decision
from transfer.data.dataset import Dataset, IdentifiedDataset, Progress
from transfer.data.images import DEFAULT, Decoding, ImageSource, decoding_of, to_pixels
from transfer.hardware import cores
from transfer.request import request_for
from transfer.search.neighbors import nearest

KINDS = ("label", "ambiguous", "copy", "near-duplicate", "outlier", "decided")
WRONG, AMBIGUOUS, COPY, NEAR, OUTLIER, DECIDED = KINDS
COLUMNS = ("kind", ID, ACTION, LABEL, "given", "suggested", "score", "other", "reason")
SMALL_MARGIN = 0.1  # between the probabilities of two classes of an ambiguous image
DONE = {KEEP: "kept", DROP: "dropped", RELABEL: "relabelled"}
LEAST_PREDICTED = 0.5  # share of the images that some split held out: less is no review


@dataclass(frozen=True)
class Finding:
    """What was noticed about an image.

    Attributes
    ----------
    kind : {'label', 'ambiguous', 'copy', 'near-duplicate', 'outlier', 'decided'}
        What weighs most; ``decided`` where nothing was noticed, and only an earlier decision is carried along.
    id : str
    given : str
        Its label; empty for an image that was dropped.
    suggested : str
        A likelier label; empty where there is none.
    score : float
        From 0 to 1: the higher, the more it stands out among findings of its kind.
    other : str
        The id of the image that it is a copy of; empty for the other kinds.
    reasons : tuple of str
        In plain words, also what was noticed beside its kind.
    action, label : str
        The decision that was taken before the run was trained; empty where there was none.
    """

    kind: str
    id: str
    given: str
    suggested: str
    score: float
    other: str
    reasons: tuple[str, ...]
    action: str = ""
    label: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as ``--json`` prints it."""
        return {**vars(self), "score": round(self.score, 6), "reasons": list(self.reasons)}

    def row(self) -> list[str]:
        """The finding as a row of `COLUMNS`: with the earlier decision, or else with nothing decided."""
        label = self.suggested if self.kind == WRONG and not self.action else self.label
        score, reason = f"{self.score:.4f}", "; ".join(self.reasons)
        return [self.kind, self.id, self.action, label, self.given, self.suggested, score, self.other, reason]


@dataclass(frozen=True, eq=False, repr=False)
class Review:
    """The result of `review`.

    Attributes
    ----------
    data : IdentifiedDataset
        The images of the run.
    findings : tuple of Finding
        One for each image about which something was noticed: by kind, and those that stand out most first.
    ranking : tuple of str
        The ids of all images whose label was reviewed, those whose label is most likely wrong first.
    notes : tuple of str
        Sentences about what was not reviewed.
    decoding : Decoding
        How the images are decoded.
    """

    data: IdentifiedDataset
    findings: tuple[Finding, ...]
    ranking: tuple[str, ...]
    notes: tuple[str, ...] = ()
    decoding: Decoding = DEFAULT

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each kind."""
        return {kind: sum(finding.kind == kind for finding in self.findings) for kind in KINDS}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return COLUMNS

    def of_kind(self, kind: str) -> list[Finding]:
        """The findings of a kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_csv(self, file: str | os.PathLike[str]) -> None:
        """Write the findings as a table in which to fill in ``action`` (see `transfer.data.corrections`).

        Raises
        ------
        StorageFailure
            When the file cannot be written.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(finding.row() for finding in self.findings)
        with new_file(Path(file), "the review", sync=False) as raw:
            raw.write(text.getvalue().encode("utf-8", "backslashreplace"))

    def to_json(self) -> dict[str, Any]:
        """All findings, as ``--json`` prints them."""
        findings = [finding.to_json() for finding in self.findings]
        counts = {"images": len(self.data), **self.counts}
        return {"data": self.data.name, "counts": counts, "notes": list(self.notes), "findings": findings}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items() if count)
        return f"<Review of {self.data.name}: {len(self.data):,} images; {counts or 'nothing was noticed'}>"


def review(
    run: Run | str | os.PathLike[str],
    data: Source | None = None,
    *,
    cache: FeatureCache | str | os.PathLike[str] | None = None,
    progress: bool | ProgressBar = True,
) -> Review:
    """Look for labels that are likely wrong and for images that are odd, twice there, or hard to tell.

    Labels are judged by what was predicted of each image when it was held out, so a run needs a protocol that holds
    every image out, such as ``cv=5``, and by the labels of its neighbours in feature space (see
    `layertap.analysis.label_issues`). Nothing is trained, and nothing is extracted that is in the cache. What was
    decided before the run was trained is part of the findings, so that one table holds all decisions.

    Parameters
    ----------
    run : Run, str or Path
        The run, or its folder.
    data : Dataset, or what `layertap.load_dataset` takes, optional
        The images and labels that the run was trained on; by default they are loaded as they were then.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Raises
    ------
    InvalidChoice
        When the run predicts no classes, holds too few predictions of images held out, or does not say where its
        images are.
    BadData
        When the data set is another one, or its labels have changed since.

    Examples
    --------
    >>> import layertap as lt
    >>> digits = lt.load_dataset("digits").select(np.arange(500))
    >>> features = lt.extract(digits, "glyphnet", layers=["block4_pool"], progress=False)
    >>> run = lt.train_head(digits, features, "ridge", cv=3, progress=False)
    >>> found = lt.review(run, digits, progress=False)
    >>> len(found.ranking), found.counts["label"] < 10
    (500, True)
    """
    run = run if isinstance(run, Run) else load_run(Path(run))
    held_out, bars, store = _predictions(run), progress_bars(progress), as_cache(cache)
    dataset = _same_images((_data_of(run) if data is None else load_dataset(data)).identify(store), held_out, run)
    rows = _features(run, dataset, store, bars)
    neighbors, distances = nearest_others(rows)
    decoding = decoding_of(run.spec)
    collected = _Collected(dataset.ids, held_out, dataset.corrections)
    issues = _review_labels(collected, held_out, neighbors)
    _review_copies(collected, held_out)
    with bars("images decoded") as show:
        grays = small_grays(dataset.sources, decoding, show)
    with bars("images compared") as show:
        pairs = find_near_duplicates(neighbors, grays, show)
    for pair in pairs:
        if held_out.digests[pair.first].tobytes() != held_out.digests[pair.second].tobytes():
            collected.add_pair(NEAR, pair.first, pair.second, pair.correlation, f"nearly the same, {pair.how}")
    scores = outlier_scores(distances)
    for place in np.flatnonzero(scores > 1):
        reason = f"far from all others: {scores[place]:.1f} times the bound of outliers"
        collected.add(OUTLIER, int(place), float(1 - 1 / (1 + scores[place])), reason)
    reviewed = np.flatnonzero(held_out.predicted)
    ranking = tuple(dataset.ids[reviewed[place]] for place in issues.ranking)
    notes = (*_lost_corrections(run, dataset), *_notes(held_out))
    return Review(dataset, collected.findings(), ranking, notes, decoding)


class _Collected:
    """What was noticed so far, image by image.

    Parameters
    ----------
    ids : sequence of str
    held_out : HeldOut
    corrections : Corrections, optional
        What was decided before the run was trained.
    """

    def __init__(self, ids: Sequence[str], held_out: HeldOut, corrections: Corrections | None) -> None:
        self._ids, self._held_out, self._corrections = ids, held_out, corrections
        self._noticed: defaultdict[int, list[tuple[str, float, str, str, str]]] = defaultdict(list)

    def add(self, kind: str, place: int, score: float, reason: str, suggested: str = "", other: str = "") -> None:
        self._noticed[place].append((kind, score, reason, suggested, other))

    def add_pair(self, kind: str, first: int, second: int, score: float, reason: str) -> None:
        """Two images that are one: what is noticed is about the second."""
        labels, splits = self._held_out.targets, self._held_out.splits
        text = f"{reason}: {self._ids[first]}"
        if labels[first] != labels[second]:
            text += f", which is labelled {labels[first]}"
        if splits[first] != splits[second]:
            text += "; the two are on different sides of a split, so scores are too good"
        self.add(kind, second, score, text, other=self._ids[first])

    def findings(self) -> tuple[Finding, ...]:
        """One finding for each image, by what weighs most, and for each earlier decision."""
        made = []
        decisions = self._corrections.all_decisions if self._corrections else {}
        for place, noticed in self._noticed.items():
            noticed = sorted(noticed, key=lambda each: (KINDS.index(each[0]), -each[1]))
            kind, score = noticed[0][:2]
            suggested = next((each[3] for each in noticed if each[3]), "")
            other = next((each[4] for each in noticed if each[4]), "")
            reasons = tuple(dict.fromkeys(each[2] for each in noticed))
            given = str(self._held_out.targets[place])
            decision = decisions.pop(self._ids[place], Decision(""))
            reasons += (_done(decision),) if decision.action else ()
            made.append(Finding(kind, self._ids[place], given, suggested, score, other, reasons, *decision))
        given_by_id = dict(zip(self._ids, self._held_out.targets.tolist(), strict=True)) if decisions else {}
        for image, decision in decisions.items():
            given = str(given_by_id.get(image, ""))
            made.append(Finding(DECIDED, image, given, "", 0.0, "", (_done(decision),), *decision))
        return tuple(sorted(made, key=lambda each: (KINDS.index(each.kind), -each.score, each.id)))


def _done(decision: Decision) -> str:
    """In plain words, what was decided before."""
    return f"{DONE[decision.action]} before this run was trained"


def _predictions(run: Run) -> HeldOut:
    """The predictions for the images held out, if they are of classes and of enough images."""
    if run.task.name != CLASSES:
        raise InvalidChoice(f"{run.folder} predicts no classes; review looks at labels of classes.")
    held_out = run.held_out
    if held_out is None:
        raise InvalidChoice(
            f"{run.folder} does not hold what was predicted of images held out; train it again, with `cv=5`."
        )
    count, of = int(held_out.predicted.sum()), len(held_out.ids)
    if count < LEAST_PREDICTED * of:
        raise InvalidChoice(
            f"{run.folder} held out {count:,} of its {of:,} images only, and a label is judged by a head that has not "
            "seen the image; train it with `cv=5`, which holds out each image once."
        )
    return held_out


def _data_of(run: Run) -> Dataset:
    """The data set of a run, loaded as it was then."""
    dataset = load_again((run.config.data or {}).get("options"))
    if dataset is None:
        raise InvalidChoice(f"{run.folder} does not say where its images are; name them with `data`.")
    return dataset


def _same_images(dataset: IdentifiedDataset, held_out: HeldOut, run: Run) -> IdentifiedDataset:
    """The images of the run, in its order.

    Raises
    ------
    BadData
        When some are missing, or differ from those of the run in content or label.
    """
    places = {name: place for place, name in enumerate(dataset.ids)}
    missing = [name for name in held_out.ids if name not in places]
    if missing:
        raise BadData(
            f"{dataset.name} lacks {len(missing):,} of the images that {run.folder} was trained on, such as "
            f"{missing[0]!r}; name the right data set with `data`, or train again."
        )
    chosen = dataset.select(np.array([places[name] for name in held_out.ids], np.int64))
    changed = np.flatnonzero((chosen.digests != held_out.digests).any(axis=1))
    if len(changed):
        raise BadData(
            f"{len(changed):,} images of {dataset.name} have changed since {run.folder} was trained; train again."
        )
    if chosen.labels is None or (chosen.labels != held_out.targets).any():
        raise BadData(f"{dataset.name} has other labels than when {run.folder} was trained; train again.")
    return chosen


def _features(run: Run, dataset: IdentifiedDataset, cache: FeatureCache, bars: ProgressBar) -> Any:
    """The features that the head reads, of the plain images."""
    parts = []
    for (spec, _), net in zip(run.parts, run.nets, strict=True):
        request = request_for(spec, net, 1)
        parts.append(extract_features(dataset, request, cache, progress=bars).features[spec.layer])
    return parts[0] if len(parts) == 1 else Joined(parts)


def nearest_others(features: Any) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other rows of each row of features, and their cosine distances: both of shape (n, k)."""
    near = nearest(features, np.asarray(features[:]), min(NEIGHBORS + 1, len(features)))
    rows, distances = near.rows, near.distances
    own = rows == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = True  # among many equal rows it may not have found itself
    keep = ~own
    return rows[keep].reshape(len(rows), -1), distances[keep].reshape(len(rows), -1)


def _review_labels(collected: _Collected, held_out: HeldOut, neighbors: np.ndarray) -> LabelIssues:
    """Collect labels that are likely wrong, and images between two classes; the issues are of the images predicted."""
    reviewed = np.flatnonzero(held_out.predicted)
    names = np.array(held_out.names)
    labels, probabilities = np.searchsorted(names, held_out.targets[reviewed]), held_out.outputs[reviewed]
    place_of = np.full(len(held_out.ids), -1)
    place_of[reviewed] = np.arange(len(reviewed))
    issues = find_label_issues(labels, probabilities, place_of[neighbors[reviewed]])
    margins, pairs = ambiguity(probabilities)
    for place, image in enumerate(reviewed.tolist()):
        label, other = names[labels[place]], names[issues.suggested[place]]
        given, likelier = probabilities[place, labels[place]], probabilities[place, issues.suggested[place]]
        if issues.contradicted[place]:
            kind = WRONG if issues.suspected[place] else AMBIGUOUS
            reason = f"heads that had not seen it give {other} {likelier:.0%} and {label} {given:.0%}"
            reason += "" if issues.counted[place] or kind == AMBIGUOUS else ", though not above the usual for it"
            collected.add(kind, image, 1 - float(issues.quality[place]), reason, str(other))
        elif margins[place] < SMALL_MARGIN:
            one, two = names[pairs[place]]
            reason = f"between two classes: {one} and {two} are about equally likely"
            collected.add(AMBIGUOUS, image, float(1 - margins[place]) / 2, reason, str(two if one == label else one))
    return issues


def _review_copies(collected: _Collected, held_out: HeldOut) -> None:
    """Collect images with the same content as an earlier one."""
    first: dict[bytes, int] = {}
    for place, key in enumerate(digest_keys(held_out.digests)):
        if (earlier := first.setdefault(key, place)) != place:
            collected.add_pair(COPY, earlier, place, 1.0, "the same file as")


def small_grays(
    sources: Sequence[ImageSource], decoding: Decoding = DEFAULT, progress: Progress | None = None
) -> np.ndarray:
    """All images in gray, stretched to squares: shape (n, 64, 64), uint8. One that is unreadable is black."""

    def gray(source: ImageSource) -> np.ndarray:
        try:
            pixels = to_pixels(source.load()[1], (SIDE, SIDE), name=str(source), decoding=decoding)
        except BadImage:
            return np.zeros((SIDE, SIDE), np.uint8)
        return np.rint(pixels.astype(np.float32).mean(axis=-1)).astype(np.uint8)

    def images() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(len(cores())) as pool:
            for number, image in enumerate(pool.map(gray, sources), 1):
                if progress:
                    progress(number, len(sources))
                yield image

    return np.stack(list(images()))


def _lost_corrections(run: Run, dataset: Dataset) -> list[str]:
    """A sentence where the run was trained with corrections that `dataset` was not given: the table lacks them then."""
    recorded = (run.config.data or {}).get("corrections")
    given = dataset.corrections.to_json() if dataset.corrections else None
    if not isinstance(recorded, dict) or recorded == given:
        return []
    return [
        f"the run was trained with the corrections {recorded.get('file')}, and {dataset.name} was loaded without them: "
        "the table does not hold them."
    ]


def _notes(held_out: HeldOut) -> tuple[str, ...]:
    """A sentence about images whose labels were not reviewed."""
    rest = int((~held_out.predicted).sum())
    if not rest:
        return ()
    return (
        f"the labels of {rest:,} images were not reviewed: no split held them out, since they are of the test or of "
        "classes with too few images.",
    )
