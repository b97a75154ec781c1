"""`layertap.compare`: spaces of features beside each other, or runs, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import InvalidChoice
from layertap.analysis.similarity import linear_cka, rsa, unbiased_cka
from layertap.progress import ProgressBar, progress_bars
from layertap.report import compare_page
from layertap.runs import Run
from layertap.workflows.comparing.runs import RunComparison, compare_runs
from layertap.workflows.extract import cache_for, stored_or_extracted
from layertap.workflows.load_dataset import Source, load_dataset
from transfer.extraction.feature_set import FeatureSet
from transfer.request import FeatureRequest

SAMPLE = 2000  # images by which spaces are compared pair by pair


@dataclass(frozen=True, eq=False, repr=False)
class Similarity:
    """How alike spaces of features are; all tables are of shape (spaces, spaces).

    Attributes
    ----------
    spaces : tuple of str
        Their layers, each with its net.
    images : int
        The images of `cka`.
    sample : int
        The images of `unbiased_cka` and `rsa`, drawn by the seed.
    cka, unbiased_cka, rsa : ndarray
        See `layertap.analysis.similarity`; RSA is by ranks.
    data : str
        The name of the data set.
    """

    spaces: tuple[str, ...]
    images: int
    sample: int
    cka: np.ndarray
    unbiased_cka: np.ndarray
    rsa: np.ndarray
    data: str = ""

    def __repr__(self) -> str:
        return f"<Similarity of {len(self.spaces)} spaces: {', '.join(self.spaces)}>"

    def write_page(self, file: str | Path) -> None:
        """Write the tables as a page of HTML.

        Raises
        ------
        StorageFailure
            When it cannot be written.
        """
        compare_page.write_spaces(Path(file), self)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it; None for a space in which all images are the same."""
        tables = {name: _finite(getattr(self, name)) for name in ("cka", "unbiased_cka", "rsa")}
        return {"spaces": list(self.spaces), "images": self.images, "sample": self.sample, **tables}


@overload
def compare(
    data: Source,
    first: FeatureSet | FeatureRequest,
    *more: FeatureSet | FeatureRequest,
    seed: int = 0,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> Similarity: ...


@overload
def compare(
    data: Source,
    first: Run | str | Path,
    *more: Run | str | Path,
    seed: int = 0,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> RunComparison: ...


def compare(
    data: Source,
    first: Any,
    *more: Any,
    seed: int = 0,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> Similarity | RunComparison:
    """Compare layers by what they see in the same images, or runs by what they predict of labelled ones.

    Features that the cache lacks are extracted first.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
        Of runs, images with classes; what a run predicted of an image when it was held out counts in place of what its
        head predicts now, since that has been trained on it.
    first, *more : FeatureSet or FeatureRequest, or Run, str or Path
        Features, of at least two layers in all, which are compared all with all; or at least two runs, or their
        folders.
    seed : int
        Of the sample of images by which layers are compared pair by pair.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder; by default that of the features, or the default cache.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Returns
    -------
    Similarity or RunComparison
        Of features, or of runs.

    Raises
    ------
    InvalidChoice
        When features and runs are mixed, there are fewer than two layers or runs, a run predicts no classes, or the
        images have none.
    BadData
        When there are too few images, or features are infinite or not numbers.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block3_pool", "block4_pool"], progress=False)
    >>> lt.compare("digits", features, progress=False).cka.shape
    (2, 2)
    >>> runs = [lt.train_head("digits", features, head, cv=3, progress=False) for head in ("ridge", "lda")]
    >>> lt.compare("digits", *runs, progress=False).comparison.agreement > 0.9
    True
    """
    named = (first, *more)
    features = [each for each in named if isinstance(each, FeatureSet | FeatureRequest)]
    if not features:
        return compare_runs(data, named, cache=cache, on_error=on_error, progress=progress)
    if len(features) < len(named):
        raise InvalidChoice("features are compared with features, and runs with runs; received both.")
    requests = [each.request if isinstance(each, FeatureSet) else each for each in features]
    if any(request is None for request in requests):
        raise InvalidChoice("these features do not record their net; take those that layertap.extract returns.")
    return compare_spaces(
        data,
        [request for request in requests if request is not None],
        cache=cache_for(features[0], cache),
        seed=seed,
        on_error=on_error,
        progress=progress,
    )


def compare_spaces(
    data: Source,
    requests: Sequence[FeatureRequest],
    *,
    cache: FeatureCache | str | Path | None = None,
    seed: int = 0,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> Similarity:
    """Compare spaces of features, all with all, on the images of a data set; what the cache lacks is extracted.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
    requests : sequence of FeatureRequest
        At least two layers in all. Of several views of an image, the first is compared.
    cache : FeatureCache, str or Path, optional
    seed : int
        Of the sample of images that are compared pair by pair.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Raises
    ------
    InvalidChoice
        When there are fewer than two spaces.
    BadData
        When there are too few images, or features are infinite or not numbers.

    Examples
    --------
    >>> from transfer.nets.catalogue import Net
    >>> request = FeatureRequest(Net("glyphnet"), ("block3_pool", "block4_pool"))
    >>> found = compare_spaces("digits", [request], progress=False)
    >>> found.spaces, bool(0 < found.cka[0, 1] < 1)
    (('glyphnet:block3_pool', 'glyphnet:block4_pool'), True)
    """
    store = as_cache(cache)
    dataset = load_dataset(data).identify(store)
    stored = partial(stored_or_extracted, cache=store, on_error=on_error, progress=progress_bars(progress))
    sets = [stored(dataset, request) for request in requests]
    spaces = {f"{spec.net}:{spec.layer}": each.plain_rows(spec.layer) for each in sets for spec in each.specs}
    if len(spaces) < 2:
        raise InvalidChoice("at least two different spaces are compared; name another with `layers`.")
    if any(each.dataset.ids != sets[0].dataset.ids for each in sets):
        raise InvalidChoice("the nets cannot read the same images; mend or remove those that are skipped.")
    count = len(sets[0].dataset)
    drawn = np.sort(np.random.default_rng(seed).permutation(count)[:SAMPLE])
    rows, sample = list(spaces.values()), [np.asarray(each[drawn]) for each in spaces.values()]
    return Similarity(
        tuple(spaces),
        count,
        len(drawn),
        cka=_table(linear_cka, rows),
        unbiased_cka=_table(unbiased_cka, sample),
        rsa=_table(rsa, sample),
        data=dataset.name,
    )


def _table(function: Any, rows: Sequence[Any]) -> np.ndarray:
    """A symmetric table of a function of two spaces."""
    table = np.ones((len(rows), len(rows)))
    for i, one in enumerate(rows):
        for j in range(i):
            table[i, j] = table[j, i] = function(one, rows[j])
    return table


def _finite(table: np.ndarray) -> list[list[float | None]]:
    return [[value if np.isfinite(value) else None for value in line] for line in table.tolist()]
