"""Which of 3 classes an image is of."""

import os

import pandas as pd
import rampwf as rw
from sklearn.model_selection import StratifiedShuffleSplit
from transfer.ramp import ImageClassifier

problem_title = "table"

# The integers of the column class in train.csv and test.csv are places in this list.
class_names = [
    "one",
    "two",
    "zero",
]

Predictions = rw.prediction_types.make_multiclass(label_names=list(range(len(class_names))))

workflow = ImageClassifier(
    test_batch_size=16,
    chunk_size=256,
    n_jobs=8,
    n_classes=len(class_names),
)

score_types = [
    rw.score_types.Accuracy(name="acc", precision=4),
    rw.score_types.NegativeLogLikelihood(name="nll", precision=4),
    rw.score_types.BalancedAccuracy(name="bal_acc", precision=4, adjusted=False),
]


def get_cv(folder_X, y):
    _, X = folder_X
    cv = StratifiedShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    return cv.split(X, y)


def get_train_data(path="."):
    return _read(path, "train.csv")


def get_test_data(path="."):
    return _read(path, "test.csv")


def _read(path, name):
    """The image folder with the file names in it, and the classes."""
    table = pd.read_csv(os.path.join(path, "data", name))
    if os.environ.get("RAMP_TEST_MODE"):  # ramp-test --quick-test
        table = table.groupby("class").head(10)
    folder = os.path.join(path, "data", "imgs")
    return (folder, table["id"].to_numpy()), table["class"].to_numpy()
