"""How the classifiers of submissions are fitted: copies of an image stay together wherever rows are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heads.evaluation.views import Views
from heads.export import affine
from heads.registry import Head, make_head
from heads.splitting.fit_groups import encode_groups, inner_split
from heads.splitting.splits import Split


def fit_head(head: Head, features: Any, labels: np.ndarray, groups: np.ndarray) -> Head:
    """Fit a head on the features of images.

    Parameters
    ----------
    head : Head
        See `heads.registry.make_head`.
    features : array of shape (n, ...)
        Such as `BatchFeatures.of_epoch` gives; a head that reads batches of rows reads them from disk.
    labels : ndarray of shape (n,), int
    groups : ndarray of shape (n,), int
        Equal for images of the same pixels. A head that holds out rows to choose its own parameters keeps each group
        on one side.

    Returns
    -------
    Head
        The same head, fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from layertap.ramp import fit_head, make_head
    >>> X = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    >>> head = fit_head(make_head("ridge", {}), X, np.repeat([0, 1], 10), np.arange(20))
    >>> head.predict(X[[0, 10]]).tolist()
    [0, 1]
    """
    return Views().fit(head, features, labels, None, groups)


@dataclass(frozen=True)
class StartingClassifier:
    """The linear classifier that fine-tuning starts from: a head, fitted on the features that the net has by itself.

    It is called with features of shape (n, d), labels of shape (n,) and groups of shape (n,), as `fit_head`, and
    returns the kernel (d, n_classes) and the bias (n_classes,) of the fitted head.

    Parameters
    ----------
    head : str
        The name of a head that is linear in the features, such as ``ridge`` or ``logistic``.
    params : mapping
        Its parameters (see ``layertap train-head --help``).

    Examples
    --------
    >>> import numpy as np
    >>> from layertap.ramp import StartingClassifier
    >>> X = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    >>> kernel, bias = StartingClassifier("ridge")(X, np.repeat([0, 1], 10), np.arange(20))
    >>> kernel.shape, bias.shape
    ((2, 2), (2,))
    """

    head: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted = affine(fit_head(make_head(self.head, dict(self.params)), features, labels, groups))
        return fitted.coef.T, fitted.intercept - fitted.coef @ fitted.centre


def hold_out(labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None) -> Split | None:
    """Split images into those that train and those that choose the number of epochs.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        The number of each image's class, from 0.
    share : float
        The share of the images to hold out, from 0 to 1.
    seed : int
    groups : ndarray of shape (n,), optional
        Equal for images of the same pixels, which stay together.

    Returns
    -------
    (ndarray, ndarray) or None
        Positions of the images that train and of those held out; None where there are too few images for both.

    Examples
    --------
    >>> import numpy as np
    >>> from layertap.ramp import hold_out
    >>> train, held_out = hold_out(np.repeat([0, 1], 10), share=0.2, seed=0)
    >>> len(train), len(held_out)
    (16, 4)
    """
    return inner_split(labels, share, seed, encode_groups(groups, labels))
