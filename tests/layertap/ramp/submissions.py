"""Preprocessors and classifiers that tests write into submissions."""

IDENTITY = "def transform(x):\n    return x\n"
RESIZED = """\
from skimage.transform import resize


def transform(x):
    return resize(x, (12, 10))
"""
MIRRORED = """\
import numpy as np


def transform(x):
    if np.random.rand() < 0.5:
        return x[:, ::-1] / 255
    return x / 255


def transform_test(x):
    return x / 255
"""
# It notes down the batches that it is given, and says what depends on them alone.
NOTING = """\
import hashlib

import numpy as np

SEEN = []


class BatchClassifier:
    def fit(self, gen_builder):
        train, valid, nb_train, nb_valid = gen_builder.get_train_valid_generators(batch_size=5, valid_ratio=0.3)
        SEEN.append((nb_train, nb_valid, gen_builder.nb_examples))
        for _ in range(9):
            self._note(*next(train))
            self._note(*next(valid))

    def _note(self, X, y):
        where = X.dtype.str, X.shape, y.dtype.str, y.shape, X.flags.writeable
        SEEN.append((where, hashlib.sha256(X.tobytes() + y.tobytes()).hexdigest()))

    def predict_proba(self, X):
        SEEN.append((X.dtype.str, X.shape, hashlib.sha256(X.tobytes()).hexdigest()))
        means = X.reshape(len(X), -1).mean(axis=1, dtype=np.float64)
        return np.stack([means, -means, 0 * means], axis=1)
"""
