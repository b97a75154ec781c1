"""`FeatureExtractor`: cached features of a net as a transformer of scikit-learn.

No other module of `transfer` imports scikit-learn at its top; Keras is imported where a net has to be built.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import validate_data

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import BadData, BadImage, InvalidChoice, MissingFeatures, unknown
from transfer.data.array_like import as_dataset
from transfer.data.datasets import Dataset
from transfer.data.transforms import named
from transfer.engines.selection import ENGINES
from transfer.extraction.coordination import one_at_a_time
from transfer.extraction.extract import extract
from transfer.extraction.feature_set import FeatureSet
from transfer.extraction.lookup import REMEDY, stored_features
from transfer.nets.catalogue import Net
from transfer.nets.pooling import pooled_shape
from transfer.request import FeatureRequest

ON_ERROR = {"fail": "fail", "nan": "skip"}  # and what that is for an extraction
DTYPES = ("float32", "float16")  # narrower ones are encoded from stored features (layertap cache shrink)
READ_BYTES = 2**26  # read from the cache at a time
_ONE = (str, int, np.integer)


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """Features of images at layers of a pretrained net, computed once and stored in a cache folder.

    It learns nothing, and so need not be fitted. In a pipeline that is fitted again and again, by `cross_val_score` or
    `GridSearchCV`, each image goes through the net once, because rows are looked up by the content of the image.

    Parameters
    ----------
    net : str
        One of ``layertap nets``, or the path of a file (see `Net`).
    layer : str, int, or sequence of them, optional
        Names or indices of layers, whose flattened features are put side by side; by default the net's readout.
    pool : {'avg', 'max', 'flatten', 'none', 'cls', 'cls+avg'}, optional
        The reduction of the spatial axes, or of tokens (see `layertap.extract`); by default the customary one of the
        net.
    prefix_tokens : int, optional
        How many tokens stand before those of the patches; by default what the net tells.
    size : int or (height, width), optional
        The size of the net's input, in pixels; by default the net's own.
    weights : {'imagenet', 'none'} or path, optional
        The weights of the net: by default ``imagenet``, or the net's own; ``none`` are random ones, by `seed`.
    image_fit : {'stretch', 'crop', 'pad'}, optional
        How an image of another shape is fitted to `size`: ``--fit`` of the command line. (An attribute ``fit`` would
        hide the method.)
    image_fill : {'gray', 'black'}, optional
        What ``pad`` fills the rest with: ``--fill`` of the command line.
    interpolation : {'bilinear', 'bicubic', 'lanczos', 'nearest'}, optional
        How it is resized; by default ``bilinear``.
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'}, optional
        The scaling of pixels that the net expects; by default the net's own.
    precision : {'float32', 'bfloat16', 'float16', 'int8'}
        The precision of the computation.
    dtype : {'float32', 'float16'}
        The type of the features in the cache; `transform` returns float32.
    alpha : {'white', 'black', 'ignore'}
        The background of transparent pixels; ``ignore`` drops a band that is marked as transparency.
    pages : {'first', 'channels'}
        Whether the first page of a file is the image, or its pages are the image's channels.
    window : str, optional
        ``LOW,HIGH`` or ``percentiles``: the values that become black and white in images of more than 8 bits.
    transform_code : str or path, optional
        ``FILE.py:FUNCTION``, your function that changes each image before it is fitted to `size`, which is run:
        ``--transform`` of the command line. (An attribute ``transform`` would hide the method.)
    seed : int
        The seed of random weights.
    cache : path, optional
        The cache folder; by default ``$LAYERTAP_CACHE``, or ``./features``.
    batch_size : int, optional
        The number of images that are computed together; by default chosen from the engine and the input size. It does
        not change the features.
    engine : {'auto', 'keras', 'openvino'}
        The engine that computes the features.
    on_error : {'fail', 'nan'}
        Whether an unreadable image is an error, or gets a row of NaN, so that rows still match labels.

    Attributes
    ----------
    n_features_in_ : int
        1, where it was fitted to a column of shape (n, 1).
    feature_names_in_ : ndarray of shape (1,), object
        The name of that column, where it has one.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> images, classes = load_digits().images.astype(np.uint8)[:99] * 15, load_digits().target[:99]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = make_pipeline(FeatureExtractor("glyphnet", "block4_pool", cache=folder), RidgeClassifier())
    ...     _ = model.fit(images, classes)
    ...     score = model.score(images, classes)
    >>> score
    1.0
    """

    def __init__(
        self,
        net: str = "glyphnet",
        layer: str | int | Sequence[str | int] | None = None,
        *,
        pool: str | None = None,
        prefix_tokens: int | None = None,
        size: int | tuple[int, int] | None = None,
        weights: str | None = None,
        image_fit: str | None = None,
        image_fill: str | None = None,
        interpolation: str | None = None,
        preprocessing: str | None = None,
        precision: str = "float32",
        dtype: str = "float32",
        alpha: str = "white",
        pages: str = "first",
        window: str | None = None,
        transform_code: str | os.PathLike[str] | None = None,
        seed: int = 0,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        engine: str = "auto",
        on_error: str = "fail",
    ) -> None:
        self.net = net
        self.layer = layer
        self.pool = pool
        self.prefix_tokens = prefix_tokens
        self.size = size
        self.weights = weights
        self.image_fit = image_fit
        self.image_fill = image_fill
        self.interpolation = interpolation
        self.preprocessing = preprocessing
        self.precision = precision
        self.dtype = dtype
        self.alpha = alpha
        self.pages = pages
        self.window = window
        self.transform_code = transform_code
        self.seed = seed
        self.cache = cache
        self.batch_size = batch_size
        self.engine = engine
        self.on_error = on_error

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters and the form of `X`; no file is opened, and nothing is learnt.

        Parameters
        ----------
        X
            Images, as for `transform`.
        y
            Ignored.

        Raises
        ------
        LayertapError
            When the net cannot be loaded, a parameter has a value that is not allowed, or `X` does not hold images.
        """
        self._request()
        as_dataset(X)
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit
            if hasattr(self, name):
                delattr(self, name)
        if _is_column(X):
            validate_data(self, X, skip_check_array=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The features of images: what is in the cache is read, and the rest computed first.

        Parameters
        ----------
        X : Dataset, or array-like of length n
            Paths of images, image sources, or images as arrays, which may be of different sizes; or one array of
            images, of shape (n, height, width), or (n, height, width, channels) with 1, 3 (RGB) or 4 (RGBA) channels.
            A column of paths may be of shape (n, 1). Arrays are uint8 from 0 (black) to 255, or floats from 0 to 1.

        Returns
        -------
        ndarray of shape (n, d), float32
            Rows in the order of `X`.

        Raises
        ------
        BadImage
            If an image is unreadable, unless `on_error` is ``nan``.
        LayertapError
            When `X` does not hold images, the net or a layer cannot be loaded, or the cache cannot be written.
        """
        request = self._request()
        dataset = as_dataset(X)
        if _is_column(X) and hasattr(self, "n_features_in_"):
            validate_data(self, X, reset=False, skip_check_array=True)
        cache = self._cache()
        try:
            stored = self._stored(dataset, request, cache)
        except BadImage as error:
            raise BadImage(str(error).replace(REMEDY, "give such images rows of NaN with `on_error='nan'`")) from error

        readable = np.array(stored.dataset.ids, dtype=np.int64)
        parts = list(stored.values())
        widths = [math.prod(part.shape[1:]) for part in parts] if len(readable) else self._widths(request, cache)
        features = np.full((len(dataset), sum(widths)), np.nan, np.float32)
        for part, width, end in zip(parts, widths, np.cumsum(widths), strict=True):
            for rows, positions in part.batches(max(1, READ_BYTES // max(1, part.row_bytes))):
                features[readable[positions], end - width : end] = rows.reshape(len(rows), -1)
        return features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The name of each column: the layer's, and a number.

        Where the cache holds no such features yet, the net is built to learn their number.

        Parameters
        ----------
        input_features
            Ignored.

        Returns
        -------
        ndarray of shape (d,), object
        """
        request = self._request()
        widths = self._widths(request, self._cache())
        names = [f"{layer}_{i}" for layer, width in zip(request.layers, widths, strict=True) for i in range(width)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.one_d_array = True  # paths
        tags.input_tags.two_d_array = False  # a table of numbers is no images
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"image_fill": "black" if state.get("image_fit") == "pad" else None, **state})

    def _request(self) -> FeatureRequest:
        """The features that the parameters describe, with the names of the layers."""
        if self.on_error not in ON_ERROR:
            raise InvalidChoice(
                f'on_error is "fail", or "nan" (a row of NaN for an unreadable image); received {self.on_error!r}.'
            )
        for kind, value, allowed in (("dtype", self.dtype, DTYPES), ("engine", self.engine, ENGINES)):
            if value not in allowed:
                raise unknown(f"there is no {kind}", str(value), allowed)
        layers = [] if self.layer is None else [self.layer] if isinstance(self.layer, _ONE) else list(self.layer)
        weights = None if self.weights is None else os.fspath(self.weights)
        request = FeatureRequest(
            Net(os.fspath(self.net), weights, int(self.seed), self.preprocessing),
            tuple(str(layer) for layer in layers),
            self.pool,
            _size(self.size),
            self.image_fit or "",
            self.interpolation or "",
            self.precision,
            self.dtype,
            alpha=self.alpha,
            pages=self.pages,
            window=self.window,
            prefix_tokens="auto" if self.prefix_tokens is None else self.prefix_tokens,
            transform=None if self.transform_code is None else named(self.transform_code),
            fill=self.image_fill or "",
        )
        return _resolved(request, request.net.weights_id)

    def _cache(self) -> FeatureCache:
        return as_cache(self.cache)

    def _stored(self, dataset: Dataset, request: FeatureRequest, cache: FeatureCache) -> FeatureSet:
        """The features of `dataset`, which are computed first where the cache lacks them."""
        on_error, known = ON_ERROR[self.on_error], dataset.identify(cache)
        with contextlib.suppress(MissingFeatures):
            return stored_features(known, request, cache, on_error=on_error)
        with one_at_a_time(cache.root):  # another process may do the same folds at this moment
            options: dict[str, Any] = {"batch_size": self.batch_size, "engine": self.engine, "on_error": on_error}
            report = extract(known, request, cache, **options)
        for text in report.warnings:
            warnings.warn(text, stacklevel=3)
        return stored_features(known, request, cache, on_error=on_error)

    def _widths(self, request: FeatureRequest, cache: FeatureCache) -> list[int]:
        """Numbers in a row of each layer: as they are in the cache, or as the net has them."""
        stored = [cache[spec].row_shape for spec in request.specs]
        if None not in stored:
            return [math.prod(shape) for shape in stored if shape is not None]
        net = request.build_outline()
        taps: Mapping[str, Any] = net.taps
        shapes = [taps[layer].shape[1:] for layer in request.layers]
        if any(None in shape for shape in shapes):
            raise BadData(
                f"{self.net} has features whose width is known only once some are computed; call `transform` first."
            )
        return [
            math.prod(pooled_shape(shape, spec.pooling_rule, net.proportions, spec.layer))
            for spec, shape in zip(request.specs, shapes, strict=True)
        ]


def _size(size: Any) -> tuple[int, int] | None:
    sides = (size, size) if isinstance(size, int | np.integer) else size
    if sides is None:
        return None
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        raise InvalidChoice(f"size is a number of pixels, or (height, width); received {size!r}.") from None
    return height, width


def _is_column(X: Any) -> bool:
    return len(getattr(X, "shape", ())) == 2


@lru_cache(maxsize=64)
def _resolved(request: FeatureRequest, weights: str) -> FeatureRequest:
    """The request with its layers by name; the net is built, and dropped, where they are not known without it.

    Parameters
    ----------
    weights : str
        The identity of the net's weights, whose file may have changed since the last call.
    """
    resolved, _ = request.resolve()
    return replace(resolved, layers=tuple(spec.layer for spec in resolved.specs))
