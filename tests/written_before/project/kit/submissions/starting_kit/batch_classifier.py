"""A small convolutional net, trained from scratch."""

import keras
import numpy as np


class BatchClassifier:
    def __init__(self):
        self.model = None

    def fit(self, gen_builder):
        batch_size = 32
        gen_train, gen_valid, nb_train, nb_valid = gen_builder.get_train_valid_generators(
            batch_size=batch_size, valid_ratio=0.1
        )
        images, targets = next(gen_train)
        self.model = build(channels_last(images).shape[1:], targets.shape[1])
        validation = {}
        if nb_valid:  # an empty generator would never yield
            steps = -(-nb_valid // batch_size)
            validation = {"validation_data": endless(gen_valid), "validation_steps": steps}
        steps = -(-nb_train // batch_size)
        self.model.fit(endless(gen_train), steps_per_epoch=steps, epochs=5, verbose=2, shuffle=False, **validation)

    def predict_proba(self, X):
        return self.model.predict_on_batch(channels_last(X))


def build(shape, n_classes):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(n_classes, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def endless(batches):
    for images, targets in batches:
        yield channels_last(images), targets


def channels_last(images):
    """Images of shape (height, width) come as batches of shape (n, 1, height, width)."""
    return np.moveaxis(images, 1, -1) if images.shape[1] == 1 else images
