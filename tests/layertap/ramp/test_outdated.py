"""Calls that Keras 3 no longer has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from layertap.ramp.transforms.code_loading import plain
from layertap.ramp.trials.keras2_compat import image_data_format, outdated

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


KERAS_1 = """\
from keras.layers import *
from keras import backend as K, models
import tensorflow as tf

K.set_image_dim_ordering('th')
layer = Convolution2D(16, 3, 3, border_mode='same', init='uniform')
layer = MaxPooling2D(dim_ordering='th')
model = models.Model(input=layer, output=Dense(output_dim=3, bias=True))
model.compile(tf.keras.optimizers.Adam(epsilon=None), 'mse')
model.fit_generator(gen, samples_per_epoch=3, nb_epoch=1)
print(model.optimizer.lr, K.mean(1), tf.keras.backend.mean(1))
layer = Conv2D(16, 3, 3)
"""


def test_arguments_of_keras_1_are_told(tmp_path: Path):
    file = tmp_path / "batch_classifier.py"
    file.write_text(KERAS_1)
    told = [line.removeprefix(f"{file}:") for line in outdated(file)]
    assert [line.partition(" is gone")[0] for line in told] == [
        "5: set_image_dim_ordering",
        "6: the argument border_mode of Convolution2D",
        "6: the argument init of Convolution2D",
        "6: the width of a kernel as the third argument of Convolution2D",
        "7: the argument dim_ordering of MaxPooling2D",
        "8: the argument bias of Dense",
        "8: the argument input of Model",
        "8: the argument output of Model",
        "8: the argument output_dim of Dense",
        "9: epsilon=None of Adam",
        "10: fit_generator",
        "10: the argument nb_epoch of fit_generator",
        "10: the argument samples_per_epoch of fit_generator",
        "11: keras.backend.mean",
        "11: the attribute lr of an optimizer",
    ]


@pytest.mark.parametrize(
    "shape", ["(1, 28, 28)", "(3, 120, 160)", "(1, rows, columns)"], ids=["gray", "colour", "named sides"]
)
@pytest.mark.parametrize(
    "call", ["Conv2D(4, 3, input_shape={})", "Input({})", "Input(shape={})"], ids=["layer", "input", "input by name"]
)
def test_nets_that_take_the_channels_first_are_told(tmp_path: Path, shape: str, call: str):
    file = tmp_path / "one.py"
    file.write_text(f"from keras.layers import Conv2D, Input\nlayer = {call.format(shape)}\n")
    [line] = outdated(file)
    assert line.startswith(f"{file}:2: the shape {shape} has its channels first, and Keras 3 takes the last axis")
    assert line.endswith('or call keras.config.set_image_data_format("channels_first") before.')
    assert image_data_format(file, lambda: ()) == "channels_first"


ASKING = """\
from keras import backend as K
shape = (1, 28, 28) if K.image_data_format() == 'channels_first' else (28, 28, 1)
"""


@pytest.mark.parametrize(
    ("text", "image_shape", "expected"),
    [
        (ASKING, (28, 28), "channels_first"),
        (ASKING, (3, 28, 28), "channels_first"),
        (ASKING, (28, 28, 3), None),
        (ASKING, (28, 28, 1), None),
        (ASKING, (), None),
        (ASKING + "X = np.moveaxis(X, 1, -1)\n", (28, 28), None),
        ("import keras\nkeras.Input((28, 28, 1))\n", (28, 28), None),
        ("import keras\nkeras.Input((3, 3, 512))\n", (28, 28), None),
        ("import keras\nkeras.Input((1, 1, 2048))\n", (28, 28), None),
        ("from mine import Input\nInput((1, 28, 28))\n", (28, 28), None),
        ("import keras\nK.set_image_data_format('channels_first')\nkeras.Input((1, 28, 28))\n", (28, 28), None),
        (
            "import keras\nkeras.layers.Conv2D(4, 3, data_format='channels_first', input_shape=(1, 9, 9))\n",
            (9, 9),
            None,
        ),
    ],
)
def test_the_order_of_axes_that_a_net_takes(
    tmp_path: Path, text: str, image_shape: tuple[int, ...], expected: str | None
):
    (tmp_path / "one.py").write_text(text)
    assert image_data_format(tmp_path / "one.py", lambda: image_shape) == expected
    assert outdated(tmp_path / "one.py") == []


def test_codes_of_terminals_are_left_out():
    assert plain("\x1b[1mbold\x1b[0m, \x1b[38;5;34mgreen\x1b[0m\x1b[K [1m]") == "bold, green [1m]"


@pytest.mark.parametrize(
    "text",
    [
        "from torch.optim import SGD\noptimizer = SGD(lr=1e-3)\n",
        "import torch\ntorch.optim.Adam(net.parameters(), lr=1e-3)\n",
        "from torch import optim\nimport keras\noptim.Adam(lr=1e-3)\nkeras.optimizers.Adam(learning_rate=1e-3)\n",
        "import torch.optim as optimizers\noptimizers.Adam(lr=1e-3)\nDataLoader(workers=3)\n",
        "import torch\nself.history['acc'].append(1)\ntrainer.fit(net, workers=3)\n",
        "from mine import SGD\nSGD(lr=1)\n",
        "import keras\nkeras.layers.Embedding(9, output_dim=3)\nkeras.layers.Conv2D(32, 3, 2)\n",
        "from keras.backend import clear_session\nimport tensorflow as tf\ntf.keras.backend.mean(1)\n",
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


@pytest.mark.slow
def test_old_calls_work_once_translated():
    # In a process of its own, since Keras stays changed.
    script = """
import importlib
from layertap.ramp.trials.old_keras import let_nets_take_channels_first, translate
let_nets_take_channels_first()
import numpy as np, keras
from layertap.ramp.trials.keras2_compat import BACKEND, CALLS, MODULES
for module in MODULES:  # these are gone, indeed
    try:
        importlib.import_module(module)
    except ImportError:
        continue
    raise AssertionError(module)
assert {name for name in dir(keras.backend) if not name.startswith("_")} <= BACKEND
assert not [name for name in CALLS if hasattr(keras.backend, name) or hasattr(keras.Model, name)]
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
from keras import backend as K
from keras.layers import Convolution2D, BatchNormalization, Dense, Dropout, Flatten, MaxPooling2D
from keras.layers.noise import GaussianNoise
from keras.engine.topology import Layer
def alone():
    while True:
        yield X
def lists():
    while True:
        yield [X, y]
assert classifier.predict_generator(alone(), steps=2).shape == (16, 2)
assert classifier.predict_generator(generator=alone(), val_samples=20).shape == (24, 2)
assert classifier.predict(alone(), steps=1).shape == classifier.predict_proba(X).shape == (8, 2)
np.testing.assert_array_equal(classifier.predict_generator(alone(), 1), classifier.predict(X))
seen = classifier.fit_generator(
    lists(), samples_per_epoch=20, nb_epoch=2, validation_data=lists(), nb_val_samples=16, verbose=0
)
assert seen.params["steps"] == 3 and seen.epoch == [0, 1] and "val_acc" in seen.history
assert len(classifier.evaluate_generator(lists(), val_samples=16, verbose=0)) == 2
K.set_value(classifier.optimizer.lr, 0.5)
assert K.get_value(classifier.optimizer.lr) == 0.5
K.set_image_dim_ordering("th")
assert (K.image_dim_ordering(), K.image_data_format()) == ("th", "channels_first")
inputs = keras.Input((1, 8, 8))
layer = Convolution2D(4, 3, 5, subsample=(2, 1), border_mode="same", init="he_normal", bias=False)
assert (layer.kernel_size, layer.strides, layer.padding, layer.use_bias) == ((3, 5), (2, 1), "same", False)
outputs = MaxPooling2D((2, 2), dim_ordering="th")(BatchNormalization(mode=0, axis=1)(layer(inputs)))
assert outputs.shape == (None, 4, 2, 4)
outputs = Dense(output_dim=2, init="uniform")(Flatten()(Dropout(p=0.2)(outputs)))
net = keras.Model(input=inputs, output=outputs)
net.compile(keras.optimizers.Adam(epsilon=None, decay=0.0), "mse")
assert np.isfinite(net.fit(np.ones((4, 1, 8, 8)), np.ones((4, 2)), nb_epoch=1, verbose=0).history["loss"]).all()
K.set_image_dim_ordering("tf")
layer = keras.layers.Conv2D(nb_filter=4, nb_row=3, nb_col=5, dim_ordering="th", input_shape=(1, 8, 8))
assert (layer.kernel_size, layer.data_format) == ((3, 5), "channels_first")
assert keras.layers.Conv2D(4, 3, 2).strides == (2, 2)
assert GaussianNoise(sigma=0.5).stddev == 0.5 and Layer is keras.layers.Layer
class Own(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.dense = Dense(units)
    def call(self, inputs):
        return self.dense(inputs)
assert Own(3).predict(np.ones((2, 4))).shape == (2, 3)
plain = keras.optimizers.Adam(lr=0.25)
assert float(np.array(plain.learning_rate)) == 0.25
assert abs(float(np.array(keras.optimizers.Adam().learning_rate)) - 1e-3) < 1e-9
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr


def test_a_shape_with_a_name_is_looked_up(tmp_path: Path):
    file = tmp_path / "batch_classifier.py"
    file.write_text("import keras\nSHAPE = (1, 8, 8)\nkeras.Input(shape=SHAPE)\n")
    (line,) = outdated(file)
    assert line.startswith(f"{file}:3: the shape (1, 8, 8) has its channels first")
    assert image_data_format(file, lambda: ()) == "channels_first"
    file.write_text("import keras\nshape = (1, 8, 8)\nshape = (8, 8, 1)\nkeras.Input(shape)\n")
    assert outdated(file) == []
