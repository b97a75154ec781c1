"""Near-duplicates that hashes of pixels miss: images that are a mirrored or cropped version of another.

Features propose, pixels decide. The nearest images in feature space are candidates: a net hardly tells an image from
its mirror image or from a crop. So are the nearest in gray levels, plain and mirrored, since compression changes the
features of fine textures. Each candidate, as it is and mirrored, is laid over windows of the other image, of
`LEAST_SIDE` to 1 of its sides, and the correlation of the gray levels is taken (template matching by normalised
cross-correlation). The best window is then searched for again in smaller steps and at twice the resolution.

How alike images of different origin are depends on the data: two photographs seldom match at all, two digits 1 always
do. So a match also has to stand out: it leaves at most `MOST_REST` of what the candidate that matches `RIVAL`th best
leaves unexplained of either image, as the ratio test of SIFT has it (D. Lowe, "Distinctive Image Features from
Scale-Invariant Keypoints", International Journal of Computer Vision 60, 2004). Images of which there are more versions
than that are not found. And what is left of both when the mean of each row and column is taken off has to correlate:
horizons and other bands are much alike without being of one image.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from transfer.search.neighbors import for_blocks, nearest

SIDE = 64  # of the gray images
COARSE, FINE = 16, 32  # sides of the patches that are compared
LEAST_SIDE, STEP, FINE_STEP = 0.65, 0.05, 0.0125  # of a window, as shares of the sides
MOVES = FINE_STEP * np.arange(-2, 3)  # around the best window of the coarse steps
LEAST_COARSE, LEAST_CORRELATION = 0.75, 0.92
RIVAL = 8  # the candidate, by how well it matches, that is taken for another image
MOST_COARSE_REST, MOST_REST = 0.7, 0.18
LEAST_DETAIL = 0.75  # correlation of what differs from the means of rows and columns
NEAREST_GRAYS = 3  # candidates by gray levels
WHOLE = 0.97  # share of the sides from which on a window is the whole image
BLOCK = 32  # images that a thread compares before it reports
LEAST_CONTRAST = 2.0  # standard deviation of the levels, of 255: below it there is nothing to match


@dataclass(frozen=True)
class NearDuplicate:
    """A pair of images of which one shows the other, or a part of it.

    Attributes
    ----------
    first, second : int
        Their positions; the second is the part, where one is.
    correlation : float
    share : float
        The share of the sides of the first that the second shows; 1 for the whole image.
    mirrored : bool
    """

    first: int
    second: int
    correlation: float
    share: float
    mirrored: bool

    @property
    def how(self) -> str:
        """In plain words, what the second is of the first."""
        words = ["mirrored"] * self.mirrored + [f"cropped to {self.share:.0%} of its sides"] * (self.share < WHOLE)
        return " and ".join(words) or "recompressed or resized"


@dataclass(frozen=True)
class _Window:
    """A square part of an image, in shares of its sides."""

    side: float
    top: float
    left: float


@dataclass(frozen=True)
class _Match:
    """How well the whole of one image, perhaps mirrored, is explained by a window of another."""

    score: float
    image: int
    other: int
    mirrored: bool
    window: _Window


def find_near_duplicates(
    neighbors: np.ndarray, grays: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> list[NearDuplicate]:
    """Pairs of near-duplicates among the nearest neighbours, the most alike first.

    Parameters
    ----------
    neighbors : ndarray of shape (n, k), int
        The nearest other images of each image; 20 are enough for copies among different images.
    grays : ndarray of shape (n, 64, 64), uint8
        The images in gray, stretched to a square.
    progress : callable, optional
        It is called with the number of images that have been compared, roughly in order, and that of all.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> grays = rng.integers(0, 256, (6, 8, 8), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    >>> grays[5] = grays[0][:, ::-1]
    >>> neighbors = np.array([[j for j in range(6) if j != i] for i in range(6)])
    >>> [(pair.first, pair.second, pair.how) for pair in find_near_duplicates(neighbors, grays)]
    [(0, 5, 'mirrored')]
    """
    patches = np.stack([_patches(grays, mirrored) for mirrored in (False, True)])
    alike = [nearest(patches[0], turned, min(NEAREST_GRAYS + 1, len(grays))).rows for turned in patches]
    candidates = _candidates(np.concatenate([neighbors, *alike], axis=1), grays)
    matches: dict[tuple[int, int], _Match] = {}
    images, lock = sorted(candidates), threading.Lock()

    def compare(start: int, stop: int) -> None:
        for image in images[start:stop]:
            found = _best_matches(grays[image], patches, image, np.array(sorted(candidates[image])))
            with lock:
                for match in found:
                    pair = min(image, match.other), max(image, match.other)
                    if pair not in matches or match.score > matches[pair].score:
                        matches[pair] = match
        if progress:
            progress(stop, len(images))

    for_blocks(compare, len(images), BLOCK)  # one thread of BLAS each: the matrices are small
    promising = _promising(matches)
    pairs: list[NearDuplicate | None] = [None] * len(promising)

    def refine(start: int, stop: int) -> None:
        for place in range(start, stop):
            match, most = promising[place]
            pair, detail = _refined(grays, match)
            alike = pair.correlation >= LEAST_CORRELATION and 1 - pair.correlation <= most
            if alike and detail >= LEAST_DETAIL:
                pairs[place] = pair

    for_blocks(refine, len(promising), BLOCK)
    found = [pair for pair in pairs if pair is not None]
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def _best_matches(gray: np.ndarray, patches: np.ndarray, image: int, others: np.ndarray) -> list[_Match]:
    """The window of an image that explains each of some others best."""
    windows = _coarse_windows(gray)
    scores = (windows @ patches[:, others].transpose(0, 2, 1)).reshape(-1, len(others))  # (mirrored and window, other)
    matches = []
    for other, place, score in zip(others.tolist(), scores.argmax(axis=0), scores.max(axis=0), strict=True):
        mirrored, window = divmod(int(place), len(windows))
        matches.append(_Match(float(score), image, other, bool(mirrored), _grid()[window]))
    return matches


def _candidates(neighbors: np.ndarray, grays: np.ndarray) -> dict[int, set[int]]:
    """The images that are compared with each image: all pairs of neighbours, in both directions."""
    contrast = grays.reshape(len(grays), -1).std(axis=1) >= LEAST_CONTRAST
    candidates: defaultdict[int, set[int]] = defaultdict(set)
    for image, others in enumerate(neighbors.tolist()):
        for other in others:
            if other >= 0 and other != image and contrast[image] and contrast[other]:
                candidates[image].add(other)
                candidates[other].add(image)
    return candidates


def _promising(matches: Mapping[tuple[int, int], _Match]) -> list[tuple[_Match, float]]:
    """The matches that may be of near-duplicates, and what each may leave unexplained once it is refined."""
    rivals = _rests_of_rivals(matches)
    rests = ((match, min(rivals[left], rivals[right])) for (left, right), match in matches.items())
    return [
        (match, MOST_REST * rest)
        for match, rest in rests
        if match.score >= LEAST_COARSE and 1 - match.score <= MOST_COARSE_REST * rest
    ]


def _rests_of_rivals(matches: Mapping[tuple[int, int], _Match]) -> dict[int, float]:
    """What the candidate that matches `RIVAL`th best leaves unexplained of each image, or it of the candidate."""
    rests: defaultdict[int, list[float]] = defaultdict(list)
    for pair, match in matches.items():
        for image in pair:
            rests[image].append(1 - match.score)
    return {image: sorted(rest)[min(RIVAL, len(rest)) - 1] for image, rest in rests.items()}


@cache
def _grid() -> tuple[_Window, ...]:
    """The windows that are tried first."""
    sides = np.arange(1.0, LEAST_SIDE - STEP / 2, -STEP)
    offsets = [np.arange(0, 1 - side + STEP / 2, STEP) for side in sides]
    return tuple(
        _Window(float(side), float(top), float(left))
        for side, starts in zip(sides, offsets, strict=True)
        for top in starts
        for left in starts
    )


@cache
def _sampling(side: float, start: float, size: int) -> np.ndarray:
    """The matrix that averages a part of one axis of a gray image to `size` places: shape (size, 64)."""
    edges = np.clip((start + side * np.arange(size + 1) / size) * SIDE, 0, SIDE)
    low, high = edges[:-1, None], edges[1:, None]
    pixels = np.arange(SIDE)
    overlap = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


@cache
def _grid_samplings() -> tuple[np.ndarray, ...]:
    """For each size of a window of the grid, the sampling of one axis at all its offsets, one below another."""
    offsets: defaultdict[float, dict[float, None]] = defaultdict(dict)
    for window in _grid():
        offsets[window.side][window.top] = None
    return tuple(
        np.concatenate([_sampling(side, start, COARSE) for start in starts]) for side, starts in offsets.items()
    )


def _coarse_windows(gray: np.ndarray) -> np.ndarray:
    """All windows of the grid, standardised: shape (windows, 256)."""
    values = gray.astype(np.float32)
    parts = []
    for across in _grid_samplings():
        starts = len(across) // COARSE
        blocks = (across @ values @ across.T).reshape(starts, COARSE, starts, COARSE)
        parts.append(blocks.transpose(0, 2, 1, 3).reshape(-1, COARSE**2))
    return _standardised(np.concatenate(parts))


def _patches(grays: np.ndarray, mirrored: bool) -> np.ndarray:
    """All images whole, in the size in which windows are compared: shape (n, 256)."""
    whole = _sampling(1.0, 0.0, COARSE)
    small = np.stack([whole @ gray.astype(np.float32) @ whole.T for gray in grays])
    return _standardised((small[:, :, ::-1] if mirrored else small).reshape(len(grays), -1))


@cache
def _near_sides(side: float) -> tuple[float, ...]:
    """The sides of the windows that are tried around a window of the grid."""
    return tuple(np.unique(np.clip(side + MOVES, 0.1, 1).round(4)).tolist())


@cache
def _near_samplings(side: float, start: float) -> np.ndarray:
    """The samplings of one axis around a window of the grid: shape (sides, moves, 32, 64)."""
    return np.stack(
        [
            [
                _sampling(near, float(np.clip(start + (side - near) / 2 + move, 0, 1 - near)), FINE)
                for move in MOVES.tolist()
            ]
            for near in _near_sides(side)
        ]
    )


def _refined(grays: np.ndarray, match: _Match) -> tuple[NearDuplicate, float]:
    """The best window near the one that was found, at the higher resolution, and how its details correlate."""
    image, other, mirrored, window = match.image, match.other, match.mirrored, match.window
    whole = _sampling(1.0, 0.0, FINE)
    part = whole @ grays[other].astype(np.float32) @ whole.T
    part = part[:, ::-1] if mirrored else part
    template = _standardised(part.reshape(1, -1))[0]
    values, moves = grays[image].astype(np.float32), len(MOVES)
    rows = _near_samplings(window.side, window.top).reshape(-1, moves * FINE, SIDE)
    columns = _near_samplings(window.side, window.left).reshape(-1, moves * FINE, SIDE)
    blocks = (rows @ values @ columns.transpose(0, 2, 1)).reshape(-1, moves, FINE, moves, FINE)
    windows = blocks.transpose(0, 1, 3, 2, 4).reshape(-1, FINE**2)
    scores = _correlations(windows, template)
    detail = _detail_correlation(part, windows[int(scores.argmax())].reshape(FINE, FINE))
    scores = scores.reshape(len(rows), -1)
    share = _near_sides(window.side)[int(scores.max(axis=1).argmax())]
    if share >= WHOLE:  # neither is a part of the other
        image, other = min(image, other), max(image, other)
    return NearDuplicate(image, other, min(1.0, float(scores.max())), share, mirrored), detail


def _detail_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two patches without the means of their rows and columns; 0 where one has nothing else."""
    one, other = (
        patch - patch.mean(axis=0) - patch.mean(axis=1, keepdims=True) + patch.mean() for patch in (first, second)
    )
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norms if norms > 0 else 0.0


def _correlations(rows: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Of rows with a standardised template: shape (n,); 0 for rows without contrast."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    faint = norms < LEAST_CONTRAST * np.sqrt(rows.shape[1])
    return np.where(faint, 0, centred @ template / np.where(faint, 1, norms))


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, of which the product is the correlation; rows without contrast are 0."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    faint = norms < LEAST_CONTRAST * np.sqrt(rows.shape[1])
    return np.where(faint, 0, rows / np.where(norms > 0, norms, 1)).astype(np.float32)
