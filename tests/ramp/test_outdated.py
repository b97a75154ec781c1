"""Calls that Keras 3 no longer has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from transfer.ramp.outdated import outdated

OLD = """\
from keras.models import Sequential
from keras.optimizers import SGD
from keras.utils import np_utils
from keras.preprocessing.image import ImageDataGenerator, load_img
from mine import Model


class BatchClassifier:
    def fit(self, gen_builder):
        self.model.compile(SGD(lr=1e-3, decay=1e-6), 'mse')
        self.model.fit_generator(
            gen, steps_per_epoch=3,
            workers=1, use_multiprocessing=False, callbacks=[EarlyStopping(monitor='val_acc')])
        self.scores = fitted.history['acc']
        Model(lr=3).train(workers=2)

    def predict_proba(self, X):
        return self.model.predict_classes(X)
"""


def test_each_is_told_with_its_line_and_what_replaces_it(tmp_path: Path):
    file = tmp_path / "batch_classifier.py"
    file.write_text(OLD)
    told = [line.removeprefix(f"{file}:") for line in outdated(file)]
    assert [line.partition(" is gone")[0] for line in told] == [
        "3: the module keras.utils.np_utils",
        "4: keras.preprocessing.image.ImageDataGenerator",
        "10: the argument decay of SGD",
        "10: the argument lr of SGD",
        "11: fit_generator",
        "11: the argument use_multiprocessing of fit_generator",
        "11: the argument workers of fit_generator",
        "13: the name val_acc of a metric",
        "14: the name acc of a metric",
        "18: predict_classes",
    ]
    assert "10: the argument lr of SGD is gone from Keras 3; in its place there is learning_rate." in told


@pytest.mark.parametrize(
    "text",
    [
        "def (",
        "\0",
        "x = 1\n",
        "optimizer = SGD(learning_rate=1)\nmodel.fit(X, epochs=3)\n",
        "from keras.preprocessing.image import load_img\n",
        "model.compile('sgd', 'mse', metrics=['acc'])\nmodel.fit(X).history['val_acc']\n",
    ],
)
def test_nothing_is_told_of_other_files(tmp_path: Path, text: str):
    (tmp_path / "one.py").write_text(text)
    assert outdated(tmp_path / "one.py") == []
    assert outdated(tmp_path / "none.py") == []


def test_old_calls_work_once_translated():
    # In a process of its own, since Keras stays changed.
    script = """
import numpy as np, keras
from transfer.ramp.outdated import translate
translate()
from keras.layers.convolutional import Conv2D
from keras.utils import np_utils
from keras.utils.np_utils import to_categorical
from keras.engine.topology import Input
assert np_utils.to_categorical([1], 2).tolist() == to_categorical([1], 2).tolist() == [[0, 1]]
assert Conv2D is keras.layers.Conv2D and Input is keras.Input
try:
    from keras.layers.core import ImageDataGenerator
except ImportError:
    pass
else:
    raise AssertionError
from keras.preprocessing.image import ImageDataGenerator, load_img
def generator():
    while True:
        yield np.ones((4, 3)), np.ones((4, 1))
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
optimizer = keras.optimizers.SGD(lr=0.1, decay=0.5, momentum=0.5)
model.compile(optimizer, "mse")
old = dict(workers=2, use_multiprocessing=True, max_queue_size=3)
history = model.fit_generator(generator(), steps_per_epoch=1.5, nb_epoch=2, verbose=0, **old)
assert len(history.history["loss"]) == 2, history.history
assert model.predict_generator(generator(), steps=2, verbose=0, **old).shape == (8, 1)
assert model.predict_generator(generator(), 3, verbose=0).shape == (12, 1)
assert model.predict_classes(np.ones((5, 3)), verbose=0).shape == (5,)
assert abs(float(np.array(keras.optimizers.Adam(decay=1e-6).learning_rate(0))) - 1e-3) < 1e-9 if callable(
    keras.optimizers.Adam(decay=1e-6).learning_rate
) else abs(float(np.array(keras.optimizers.Adam(decay=1e-6).learning_rate)) - 1e-3) < 1e-9
assert model.evaluate_generator(generator(), steps=1, verbose=0, workers=1) >= 0
rate = float(np.array(optimizer.learning_rate))
assert abs(rate - 0.1 / (1 + 0.5 * 4)) < 1e-6, rate
stop = keras.callbacks.EarlyStopping("val_acc", patience=1)
X, y = np.zeros((8, 4, 4, 1)), np.eye(2)[[0, 1] * 4]
images = ImageDataGenerator(rescale=1 / 255).flow(X, y, batch_size=4)
classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
classifier.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
history = classifier.fit_generator(
    images, steps_per_epoch=2, epochs=5, validation_data=(X, y), callbacks=[stop], verbose=0
).history
assert history["acc"] == history["accuracy"] and history["val_acc"] == [0.5, 0.5], history
assert classifier.fit(X, y, 4, 1, 0, [stop], shuffle=False).history["acc"] == [0.5]
plain = keras.optimizers.Adam(lr=0.25)
assert float(np.array(plain.learning_rate)) == 0.25
assert abs(float(np.array(keras.optimizers.Adam().learning_rate)) - 1e-3) < 1e-9
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
