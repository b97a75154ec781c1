"""glyphnet: only letters are drawn, never digits, and what is shipped is the net that was trained."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import keras
import numpy as np
import pytest

from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import NETS, Net
from transfer.nets.glyphnet import letters, net


class TestLetters:
    def test_every_character_is_a_letter_and_none_is_a_number(self) -> None:
        drawn = [letter for script in letters.ALPHABETS.values() for letter in script if letter != " "]
        assert len(drawn) > 400
        for letter in drawn:
            assert unicodedata.category(letter).startswith("L"), letter
            assert not letter.isnumeric(), letter
            assert unicodedata.numeric(letter, None) is None, letter

    def test_every_letter_is_of_its_script_and_in_one_group(self) -> None:
        for script, groups in letters.ALPHABETS.items():
            members = groups.replace(" ", "")
            assert len(set(members)) == len(members), script
            for letter in members:
                assert unicodedata.name(letter).split()[0] == script.upper(), letter

    def test_the_held_out_script_shares_no_letter_with_the_others(self) -> None:
        held_out = set(letters.ALPHABETS[letters.HELD_OUT].replace(" ", ""))
        others = "".join(text for script, text in letters.ALPHABETS.items() if script != letters.HELD_OUT)
        assert len(held_out) >= 10
        assert not held_out & set(others)

    def test_without_fonts_it_says_how_to_fetch_them(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=f"no fonts under {tmp_path}; fetch them with: npm install"):
            letters.render(tmp_path, ["latin", "greek"])


class TestDistortion:
    @pytest.fixture
    def masters(self) -> np.ndarray:
        """A vertical bar, a horizontal one and a square."""
        masters = np.zeros((3, letters.MASTER_SIZE, letters.MASTER_SIZE), np.uint8)
        masters[0, 4:44, 20:28] = 255
        masters[1, 20:28, 4:44] = 255
        masters[2, 4:44, 4:44] = 255
        return masters

    def test_images_are_what_the_net_takes(self, masters: np.ndarray) -> None:
        images = letters.distort(masters, np.random.default_rng(0))
        assert images.shape == (3, 32, 32, 1)
        assert images.dtype == np.uint8

    def test_the_same_generator_gives_the_same_images_and_another_others(self, masters: np.ndarray) -> None:
        first, again, other = (letters.distort(masters, np.random.default_rng(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any((1, 2, 3)).all()

    def test_masters_are_left_as_they_were(self, masters: np.ndarray) -> None:
        before = masters.copy()
        letters.distort(masters, np.random.default_rng(0))
        np.testing.assert_array_equal(masters, before)

    def test_letters_vary_and_both_polarities_come(self, masters: np.ndarray) -> None:
        images = letters.distort(np.repeat(masters[:1], 200, 0), np.random.default_rng(0)).astype(float)
        border = np.concatenate([images[:, 0], images[:, -1]], 1).mean((1, 2))
        centre = images[:, 10:22, 14:18].mean((1, 2, 3))
        dark_on_light = (border > centre).mean()
        assert 0.3 < dark_on_light < 0.7
        assert len(np.unique(images.reshape(200, -1), axis=0)) == 200

    def test_a_bar_stays_a_bar(self, masters: np.ndarray) -> None:
        images = letters.distort(np.repeat(masters[:2], 100, 0), np.random.default_rng(0))[..., 0].astype(float)
        ink = np.abs(images - np.median(images[:, [0, -1]].reshape(200, -1), axis=1)[:, None, None])
        places = np.arange(32)

        def spread(axis: int) -> np.ndarray:
            weight = ink.sum(axis) / ink.sum((1, 2))[:, None]
            mean = (weight * places).sum(1, keepdims=True)
            return (weight * (places - mean) ** 2).sum(1)

        tall = spread(2) > spread(1)
        assert tall[:100].mean() > 0.85
        assert tall[100:].mean() < 0.15


class TestNet:
    def test_folding_batch_normalisation_keeps_the_outputs(self, rng: np.random.Generator) -> None:
        keras.utils.set_random_seed(0)
        trained = net.build((16, 16), batch_norm=True)
        for layer in trained.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                width = layer.gamma.shape[0]
                statistics = [rng.uniform(0.5, 2, width), rng.normal(0, 0.3, width)]
                layer.set_weights([*statistics, rng.normal(0, 0.1, width), rng.uniform(0.05, 0.5, width)])
        folded = net.build((16, 16))
        for name, (kernel, bias) in net.fold(trained).items():
            folded.get_layer(name).set_weights([kernel, bias])
        images = rng.uniform(-1, 1, (4, 16, 16, 1)).astype("float32")
        expected, found = (keras.ops.convert_to_numpy(one(images, training=False)) for one in (trained, folded))
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())

    def test_weights_survive_writing_and_reading_to_half_precision(self, tmp_path: Path, rng) -> None:
        weights = {}
        for layer in net.build().layers:
            if isinstance(layer, keras.layers.Conv2D):
                shapes = [part.shape for part in layer.get_weights()]
                weights[layer.name] = tuple(rng.normal(0, 0.1, shape).astype("float32") for shape in shapes)
        net.save_weights(weights, tmp_path / "weights.h5")
        read = net.build()
        net.load_weights(read, tmp_path / "weights.h5")
        for name, expected in weights.items():
            for found, wanted in zip(read.get_layer(name).get_weights(), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)

    def test_shipped_weights_are_small_finite_and_fit_the_net(self) -> None:
        assert Net("glyphnet").weights_file == net.WEIGHTS_FILE
        assert net.WEIGHTS_FILE.stat().st_size <= 3_000_000
        shipped = Backbone(Net("glyphnet")).model
        for layer in shipped.layers:
            for part in layer.get_weights():
                assert np.isfinite(part).all()
                assert part.std() > 0

    @pytest.mark.slow
    def test_shipped_features_tell_the_digits_apart_better_than_random_ones(self, features_of) -> None:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        from transfer.data import datasets
        from transfer.extraction.reading import read_batches
        from transfer.request import FeatureRequest

        chosen, labels = np.arange(400), load_digits().target[:400]
        (batch,) = read_batches(datasets.load("digits"), chosen, FeatureRequest(Net("glyphnet")), 400, [])
        accuracy = {}
        for weights in (None, "none"):
            backbone = Backbone(Net("glyphnet", weights))
            features = features_of(backbone, batch.inputs, NETS["glyphnet"].readout, pooling="avg")[0]
            scaled = StandardScaler().fit_transform(features)
            head = LogisticRegression(C=0.01, max_iter=500).fit(scaled[:100], labels[:100])
            accuracy[weights] = head.score(scaled[100:], labels[100:])
        assert accuracy[None] > 0.85
        assert accuracy[None] > accuracy["none"] + 0.03

    def test_table_says_what_the_net_is(self) -> None:
        info = NETS["glyphnet"]
        backbone = Backbone(Net("glyphnet"))
        assert (info.size, info.width) == (net.SIZE, net.WIDTHS[-1])
        assert backbone.taps[info.readout].shape[-1] == info.width
        assert backbone.model.input.shape == (None, 32, 32, 1)
        smallest = Backbone(Net("glyphnet"), (info.min_size, info.min_size))
        assert all(side >= 1 for side in smallest.taps[info.readout].shape[1:])
