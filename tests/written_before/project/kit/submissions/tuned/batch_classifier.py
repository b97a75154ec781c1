"""tiny.keras up to conv3, its last layers trained from a head ridge; what is before them is cached."""

from heads.fusing import affine
from heads.grouping import for_fit, inner_split, numbered
from heads.registry import make_head
from transfer.finetune.recipe import Recipe
from transfer.ramp.features import BatchFeatures
from transfer.ramp.tuning import BatchTuner


def probe(features, labels, contents):
    """Kernel and bias of the classifier that training starts from; copies of an image stay together in its splits."""
    head = make_head("ridge", {})
    found = affine(head.fit(features, labels, **for_fit(head, numbered(contents, labels))))
    return found.coef.T, found.intercept - found.coef @ found.centre


def split(target, share, seed, contents):
    """Images that train, and those held out to choose the number of epochs; copies of an image stay together."""
    return inner_split(target, share, seed, numbered(contents, target))


class BatchClassifier:
    def __init__(self):
        features = BatchFeatures(
            net="@FOLDER@/tiny.keras",
            layer="conv3",
            pool="avg",
            size=(16, 16),
            preprocessing="unit",
        )
        self.tuner = BatchTuner(features, probe, split, unfreeze_from="conv3", recipe=Recipe(epochs=20))

    def fit(self, gen_builder):
        batches, _, count, _ = gen_builder.get_train_valid_generators(batch_size=256, valid_ratio=0)
        self.tuner.fit(batches, count)

    def predict_proba(self, X):
        return self.tuner.predict_proba(X)
