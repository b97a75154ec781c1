"""A head of the user's own: the nearest median of a class."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class NearestMedian(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.medians_ = np.stack([np.median(X[y == name], axis=0) for name in self.classes_])
        return self

    def decision_function(self, X):
        return -10 * np.abs(X[:, None] - self.medians_).mean(axis=2)

    def predict(self, X):
        return self.classes_[self.decision_function(X).argmax(axis=1)]


def make_head():
    return NearestMedian()
