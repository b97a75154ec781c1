"""Training the end of a net: from what is kept or from pixels, interrupted or not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, BadImage
from heads.splitting.fit_groups import encode_groups, inner_split
from transfer.data.augment import Augmentation
from transfer.data.datasets import Dataset, load
from transfer.data.images import to_pixels
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.finetune import checkpoint
from transfer.finetune.cut_choice import find_cut
from transfer.finetune.held_out import epochs_without_progress, exceeds_its_error, find_temperature, log_losses
from transfer.finetune.pixel_rows import PixelRows
from transfer.finetune.recipe import Recipe
from transfer.finetune.tuner import FineTuner, TrainingStopped
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

COUNT = 48
VIEWS: dict[str, Any] = {"views": 3, "augmentation": "v1:brightness=0.2,flip,rotate=20,seed=0"}
QUICK = Recipe(epochs=2, batch_size=7, inner=0, learning_rate=1e-3)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Gray and colour images of stripes, across or along."""
    folder, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for number in range(COUNT):
        wide = int(rng.integers(2, 5))
        line = (np.arange(20) // wide % 2 * 90 + rng.integers(0, 120)).astype(np.uint8)
        image = np.tile(line, (20, 1)) + rng.integers(0, 40, (20, 20)).astype(np.uint8)
        name = ("across", "along")[number % 2]
        (folder / name).mkdir(exist_ok=True)
        pixels = image if number % 2 else image.T
        Image.fromarray(np.stack([pixels] * 3, 2) if number % 3 == 0 else pixels).save(folder / name / f"{number}.png")
    return load(str(folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("features"))


def features(stripes: Dataset, cache: FeatureCache, request: FeatureRequest) -> Any:
    from feature_cache.joined import Joined

    extract(stripes, request, cache, engine="keras")
    parts = list(stored_features(stripes, request, cache).features.values())
    return parts[0] if len(parts) == 1 else Joined(parts)


class Setting:
    """A net that is cut at a place, its rows, and a probe; the classifier reads `layer`, or the customary one."""

    def __init__(
        self, stripes: Dataset, cache: FeatureCache, net: Net, first: str, keep: bool, layer: str = "", **options: Any
    ) -> None:
        size, read = (32, 32), (layer,) if layer else ()
        request = FeatureRequest(net, read, size=size, **options)
        plain = FeatureRequest(net, read, size=size)
        self.recipe = QUICK
        self.cut = find_cut(request.build(), request.specs[0].layer, first, keep=keep)
        readout = features(stripes, cache, plain)
        if self.cut.layers:
            outputs = FeatureRequest(net, self.cut.layers, "none", size, prefix_tokens=None, **options)
            self.rows = features(stripes, cache, outputs)
        else:
            self.rows = PixelRows(stripes, request, readout.keys()[0])
        self.labels = np.repeat(stripes.labels, request.views)
        self.views = request.views
        self._space = readout.space
        self._request = request

    def make(self, recipe: Recipe = QUICK) -> Any:
        """A new network."""
        from transfer.finetune.network import Network

        spec = self._request.specs[0]
        readout, augments = (spec.layer, spec.pooling_rule, spec.preprocessing), spec.augmentation is not None
        backbone = self._request.build()
        for name in self.cut.trained:
            backbone.find(name)  # it may be a layer inside a layer
        return Network(backbone, self.cut, *readout, 2, recipe, augments=augments)

    def probe(
        self, digests: np.ndarray, views: np.ndarray, labels: np.ndarray, groups: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Difference of the class means: a linear classifier without any choice; of random features, none."""
        rows = np.asarray(self._space.rows(digests[views == 0]))
        one, other = (rows[labels[views == 0] == label].mean(0) for label in ("across", "along"))
        kernel = np.stack([one, other], 1)
        scale = 0 if self._request.net.has_random_weights else 2 / np.square(one - other).sum()
        return scale * kernel, -0.5 * scale * np.square(kernel).sum(0)

    @functools.cached_property
    def network(self) -> Any:
        """A network that tuners share, for it takes longer to compile than to train."""
        return self.make()

    def tuner(self, recipe: Recipe = QUICK, *, network: Any = None, **options: Any) -> FineTuner:
        """A tuner that finds nothing of what others have left in the network, unless one is passed."""
        assert recipe.lora == QUICK.lora or network is not None
        if network is None:
            network = self.network
            network.weights = [np.full_like(values, 7) for values in network.weights]
            network.optimizer = [np.full_like(values, 7) for values in network.optimizer]
        return FineTuner(network, self.probe, recipe, split, views=self.views, **options)


def split(target: np.ndarray, share: float, seed: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    return inner_split(target, share, seed, encode_groups(groups, target))


def steps_of(stages: list[list[dict[str, Any]]]) -> list[float]:
    """The losses of all steps of the training that counts."""
    return [loss for epoch in stages[1] for loss in epoch["steps"]]


class Watched:
    """Rows that note which of them are read."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.read: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        self.read.append(np.asarray(index))
        rows: np.ndarray = self._rows[index]
        return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "first", "options"),
    [
        ("glyphnet", None, "block4_conv1", {}),
        ("glyphnet", None, "block4_conv1", VIEWS),
        # Inside a block, past a skip connection.
        ("mobilenetv2", "none", "block_4_project_BN", {"layer": "block_5_depthwise_relu"}),
    ],
)
def test_from_what_is_kept_and_from_pixels_every_step_has_the_same_loss(
    stripes: Dataset, cache: FeatureCache, name: str, weights: str | None, first: str, options: dict[str, Any]
):
    kept = Setting(stripes, cache, Net(name, weights), first, keep=True, **options)
    plain = Setting(stripes, cache, Net(name, weights), first, keep=False, **options)
    assert len(kept.cut.layers) == 1 + ("BN" in first)
    assert_same_training(kept, plain)


@pytest.fixture
def attentive(tmp_path: Path) -> Net:
    """A file of a net with two blocks, each of them a nested model with attention in it."""
    import keras

    def block(name: str) -> Any:
        tokens = keras.Input((16, 8))
        attended = keras.layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
        mixed = keras.layers.LayerNormalization(name="norm")(keras.layers.Add()([tokens, attended]))
        return keras.Model(tokens, keras.layers.Dense(8, "gelu", name="mlp")(mixed), name=name)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    tokens = keras.layers.Reshape((16, 8))(keras.layers.Conv2D(8, 8, 8, name="patch")(inputs))
    keras.Model(inputs, block("block_1")(block("block_0")(tokens))).save(tmp_path / "attentive.keras")
    return Net(str(tmp_path / "attentive.keras"), preprocessing="tf")


@pytest.mark.parametrize(
    ("first", "layer"),
    [("block_1", "block_0"), pytest.param("block_1/mlp", "block_1/norm", marks=pytest.mark.slow)],
)
def test_the_last_block_of_a_nested_net_is_trained_alike(
    stripes: Dataset, cache: FeatureCache, attentive: Net, first: str, layer: str
):
    kept, plain = (Setting(stripes, cache, attentive, first, keep, "block_1/mlp") for keep in (True, False))
    assert kept.cut.layers == (layer,)
    assert_same_training(kept, plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "block"),
    [("vit", "vit_encoder/transformer_block_2"), ("dinov2 with registers", "dinov2_backbone_encoder/layers_1")],
)
def test_the_last_block_of_a_preset_is_trained_alike(
    stripes: Dataset, cache: FeatureCache, tmp_path: Path, name: str, block: str
):
    from tests.transfer.hub_nets import save_preset  # skips the test where KerasHub is not installed

    net = Net(f"hub:{save_preset(name, tmp_path)}")
    kept, plain = (Setting(stripes, cache, net, block, keep) for keep in (True, False))
    assert len(kept.cut.layers) == 1
    assert kept.cut.trained[0].startswith(block)
    assert_same_training(kept, plain)


def assert_same_training(kept: Setting, plain: Setting) -> None:
    """Train from what is kept and from pixels: each step has the same loss, and both say the same in the end."""
    assert not plain.cut.layers
    said = []
    for setting in (kept, plain):
        tuner = setting.tuner(network=setting.make())
        net = tuner.network.backbone.model
        statistics = [np.array(variable) for variable in net.non_trainable_variables]
        tuner.fit(setting.rows, setting.labels)
        for before, after in zip(statistics, net.non_trainable_variables, strict=True):
            np.testing.assert_array_equal(before, np.array(after))  # of batch normalisation, trained or not
        said.append((steps_of(tuner.stages_), tuner.predict_proba(setting.rows)))
    (losses, probabilities), (others, expected) = said
    assert len(losses) == 2 * -(-COUNT // 7)
    assert len(set(losses)) > 2
    np.testing.assert_allclose(losses, others, atol=1e-3)
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)


@pytest.fixture(scope="module")
def setting(stripes: Dataset, cache: FeatureCache) -> Setting:
    return Setting(stripes, cache, Net("glyphnet"), "block4_conv1", keep=True)


def test_no_epoch_is_the_probe_and_frozen_layers_stay_as_they_are(setting: Setting):
    tuner = setting.tuner(network=setting.make())
    before = {layer.name: layer.get_weights() for layer in tuner.network.backbone.model.layers}
    tuner.network.reset(*setting.probe(*setting.rows.keys(), setting.labels))
    tuner.classes_ = np.array(["across", "along"])
    kernel, bias = setting.probe(*setting.rows.keys(), setting.labels)
    readout = np.asarray(setting._space.rows(*setting.rows.keys()))
    np.testing.assert_allclose(tuner._logits(setting.rows, np.arange(COUNT)), readout @ kernel + bias, atol=1e-3)
    np.testing.assert_allclose(tuner.features(setting.rows, np.arange(9, 0, -1)), readout[9:0:-1], atol=1e-4)

    tuner.fit(setting.rows, setting.labels)
    trained, (kernel, bias) = tuner.features(setting.rows, np.arange(COUNT)), tuner.network.dense.get_weights()
    assert np.abs(trained - readout).max() > 1e-2
    np.testing.assert_allclose(trained @ kernel + bias, tuner._logits(setting.rows, np.arange(COUNT)), atol=1e-4)
    for layer in tuner.network.backbone.model.layers:
        same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name], strict=True))
        assert same == (layer.name not in ("block4_conv1", "block4_conv2"))


def test_the_number_of_epochs_is_chosen_on_images_held_out_then_all_train(setting: Setting):
    recipe = Recipe(epochs=3, batch_size=8, inner=0.25, learning_rate=1e-3)
    tuner = setting.tuner(recipe).fit(setting.rows, setting.labels)
    chosen, last = tuner.stages_
    assert [epoch["epoch"] for epoch in chosen][:2] == [0, 1]
    assert [epoch["epoch"] for epoch in last] == list(range(1, tuner.epochs_ + 1))
    assert {len(epoch["steps"]) for epoch in chosen[1:]} == {-(-36 // 8)}
    assert {len(epoch["steps"]) for epoch in last} <= {COUNT // 8}
    kept = setting.tuner(Recipe(epochs=3, batch_size=8, inner=0.25, learning_rate=1e-3, refit=False))
    kept.fit(setting.rows, setting.labels)
    losses = [[epoch["valid_loss"] for epoch in stage] for stage in (kept.stages_[0], chosen)]
    np.testing.assert_allclose(*losses, atol=1e-5)
    assert kept.stages_[1] == [] and kept.epochs_ == tuner.epochs_


@pytest.mark.parametrize(("rate", "shuffle"), [(1e-6, None), (1e-1, None), (1e-3, 5), (1e-2, 4)])
def test_the_last_epoch_that_is_hardly_worse_than_the_best_is_chosen_if_that_is_better_than_the_probe(
    setting: Setting, rate: float, shuffle: int | None
):
    recipe = Recipe(epochs=6, batch_size=8, inner=0.25, learning_rate=rate, patience=6, refit=False)
    labels = setting.labels if shuffle is None else np.random.default_rng(shuffle).permutation(setting.labels)
    truth = (labels == "along").astype(int)
    inner = split(truth, 0.25, 0, np.arange(COUNT))
    assert inner is not None
    rows, held_out = inner

    def losses() -> np.ndarray:
        logits = tuner._logits(setting.rows, held_out)
        return log_losses(logits / find_temperature(logits, truth[held_out]), truth[held_out])

    tuner = setting.tuner(recipe, on_epoch=lambda stage, about: found.append(losses()))
    tuner.classes_ = np.array(["across", "along"])
    tuner.network.reset(*setting.probe(*setting.rows.keys(rows), labels[rows]))
    found = [losses()]
    tuner.fit(setting.rows, labels)
    best = min(found, key=np.mean)
    near = [epoch for epoch, one in enumerate(found) if not exceeds_its_error(one - best, held_out)]
    assert tuner.epochs_ == (near[-1] if exceeds_its_error(found[0] - best, held_out) else 0)
    np.testing.assert_allclose(losses(), found[tuner.epochs_], atol=1e-4)


def test_the_error_of_a_mean():
    rng = np.random.default_rng(0)
    alone = np.arange(40)
    gains = rng.normal(0, 1, 40)
    gains -= gains.mean()
    error = gains.std(ddof=1) / np.sqrt(40)
    assert exceeds_its_error(gains + 1.01 * error, alone)
    assert not exceeds_its_error(gains + 0.99 * error, alone)
    # Ten copies of each value tell no more than one.
    assert exceeds_its_error(np.repeat(gains + 1.01 * error, 10), np.repeat(alone, 10))
    assert not exceeds_its_error(np.repeat(gains + 0.99 * error, 10), np.repeat(alone, 10))
    assert not exceeds_its_error(np.zeros(5), np.arange(5))
    assert not exceeds_its_error(np.array([1.0, -1.0, 0.1]), np.zeros(3))


def test_training_stops_when_the_loss_has_risen(setting: Setting):
    # So many epochs that the early look at a training, after a tenth, is far away.
    recipe = Recipe(epochs=400, batch_size=8, inner=0.25, learning_rate=1e-3, patience=2, warmup=0.002)
    shuffled = np.random.default_rng(0).permutation(setting.labels)
    tuner = setting.tuner(recipe).fit(setting.rows, shuffled)
    losses = [epoch["valid_loss"] for epoch in tuner.stages_[0]]
    assert len(losses) - 1 == 1 + int(np.argmin(losses[1:])) + 2 < 40
    assert not tuner.hopeless_


def test_a_loss_that_rises_before_it_falls_is_no_lack_of_progress():
    dip = [0.5, 0.9, 0.8, 0.7, 0.6, 0.4]
    assert [epochs_without_progress(dip[: end + 1], rising=1) for end in range(6)] == [0] * 6
    rise = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert [epochs_without_progress(rise[: end + 1], rising=2) for end in range(5)] == [0, 0, 0, 1, 2]


def test_a_hopeless_training_ends_after_a_tenth_and_leaves_the_probe(setting: Setting):
    recipe = Recipe(epochs=20, batch_size=8, inner=0.25, learning_rate=1.0)
    shuffled = np.random.default_rng(0).permutation(setting.labels)
    steps: list[int] = []
    tuner = setting.tuner(recipe, progress=lambda done, of: steps.append(done)).fit(setting.rows, shuffled)
    assert (tuner.hopeless_, tuner.epochs_, tuner.temperature_) == (True, 0, 1.0)
    assert len(steps) == 20 * 5 / 10
    kernel, bias = setting.probe(*setting.rows.keys(), shuffled)
    readout = np.asarray(setting._space.rows(*setting.rows.keys()))
    np.testing.assert_allclose(tuner._logits(setting.rows, np.arange(COUNT)), readout @ kernel + bias, atol=1e-3)


def test_nothing_ends_a_training_early_whose_patience_is_as_long(setting: Setting):
    recipe = Recipe(epochs=3, batch_size=8, inner=0.25, learning_rate=1.0, patience=3)
    tuner = setting.tuner(recipe).fit(setting.rows, setting.labels)
    assert [epoch["epoch"] for epoch in tuner.stages_[0]] == [0, 1, 2, 3]


def stop_after(count: int) -> Callable[[], bool]:
    calls = iter(range(1000))
    return lambda: next(calls) == count - 1


@pytest.mark.parametrize("stops", [[1], [5], [6], [9, 4], [14, 3, 2]])
def test_interrupted_and_resumed_is_as_if_nothing_had_been(setting: Setting, tmp_path: Path, stops: list[int]):
    recipe = Recipe(epochs=2, batch_size=8, inner=0.25, learning_rate=1e-3)
    whole = setting.tuner(recipe).fit(setting.rows, setting.labels)
    expected = whole.predict_proba(setting.rows)
    for count in stops:
        tuner = setting.tuner(recipe, folder=tmp_path, stopping=stop_after(count))
        with pytest.raises(TrainingStopped):
            tuner.fit(setting.rows, setting.labels)
    steps: list[int] = []
    tuner = setting.tuner(recipe, folder=tmp_path, progress=lambda done, of: steps.append(done))
    said = tuner.fit(setting.rows, setting.labels).predict_proba(setting.rows)
    assert len(steps) == 2 * 5 + whole.epochs_ * 6 - sum(stops)
    assert tuner.epochs_ == whole.epochs_
    np.testing.assert_allclose(steps_of(tuner.stages_), steps_of(whole.stages_), atol=1e-5)
    np.testing.assert_allclose(said, expected, atol=1e-5)
    again = setting.tuner(recipe, folder=tmp_path, stopping=lambda: pytest.fail("trained again"))
    np.testing.assert_array_equal(again.fit(setting.rows, setting.labels).predict_proba(setting.rows), said)


def test_a_checkpoint_of_other_rows_or_another_recipe_is_not_used(setting: Setting, tmp_path: Path):
    tuner = setting.tuner(folder=tmp_path)
    tuner.fit(setting.rows, setting.labels)
    half = np.arange(0, COUNT, 2)
    for rows, labels, recipe in (
        (setting.rows.take(half), setting.labels[half - half % 2 + np.arange(24) % 2], QUICK),
        (setting.rows, setting.labels[::-1], QUICK),
        (setting.rows, setting.labels, Recipe(epochs=2, batch_size=7, inner=0, learning_rate=2e-3)),
    ):
        steps: list[int] = []
        setting.tuner(recipe, folder=tmp_path, progress=lambda done, of: steps.append(done)).fit(rows, labels)  # noqa: B023
        assert steps


def test_a_damaged_checkpoint_is_none(tmp_path: Path):
    state = checkpoint.State(epoch=3, losses=[0.5], weights=[np.arange(3.0)], best=[np.ones((2, 2)), np.zeros(1)])
    file = tmp_path / "one.npz"
    checkpoint.write(file, "key", state)
    found = checkpoint.read(file, "key")
    assert found is not None
    assert (found.epoch, found.losses, len(found.best), len(found.optimizer)) == (3, [0.5], 2, 0)
    np.testing.assert_array_equal(found.best[0], np.ones((2, 2)))
    assert checkpoint.read(file, "another") is None
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content[:-200] + bytes(200)):
        file.write_bytes(damaged)
        assert checkpoint.read(file, "key") is None
    assert checkpoint.read(tmp_path / "none.npz", "key") is None


def test_views_are_drawn_one_for_each_image_in_each_epoch(stripes: Dataset, cache: FeatureCache):
    several = Setting(stripes, cache, Net("glyphnet"), "block4_conv1", True, **VIEWS)
    rows = Watched(several.rows)
    several.tuner().fit(rows, several.labels)
    steps = -(-COUNT // 7)
    for epoch in range(2):
        read = np.concatenate(rows.read[epoch * steps : (epoch + 1) * steps])
        assert sorted(read // 3) == list(range(COUNT))
        assert len(set(read % 3)) == 3


def test_pixels_are_what_the_net_is_given(stripes: Dataset, cache: FeatureCache):
    request = FeatureRequest(Net("glyphnet"), size=(24, 32), augmentation="v1:flip,seed=3", views=2)
    digests = features(stripes, cache, FeatureRequest(Net("glyphnet"), size=(24, 32))).keys()[0]
    rows = PixelRows(stripes, request, digests)
    assert (rows.shape, rows.dtype, rows.nbytes) == ((2 * COUNT, 24, 32, 3), np.uint8, 2 * COUNT * 24 * 32 * 3)
    augmentation = Augmentation.from_key(request.augmentation)
    for position in (0, 5):
        digest, image = stripes.sources[position].load()
        pixels = np.broadcast_to(to_pixels(image, (24, 32), "stretch", "bilinear", ""), (24, 32, 3))
        both = rows[2 * position : 2 * position + 2]
        np.testing.assert_array_equal(both.pixels, [pixels, pixels])
        np.testing.assert_array_equal(both.numbers, [augmentation.numbers(digest, view, 24, 32) for view in (0, 1)])
    some = rows.take(np.array([7, 2, 11]))
    np.testing.assert_array_equal(some[:].pixels, rows[np.array([7, 2, 11])].pixels)
    np.testing.assert_array_equal(some[:].numbers, rows[np.array([7, 2, 11])].numbers)
    np.testing.assert_array_equal(some.keys()[1], [1, 0, 1])
    plain = PixelRows(stripes, FeatureRequest(Net("glyphnet"), size=(24, 32)), digests)
    np.testing.assert_array_equal(plain[:3], rows[:6:2].pixels)
    changed = PixelRows(stripes, request, digests[::-1])
    with pytest.raises(BadImage, match="has changed since it was first read"):
        changed[:1]


def test_the_loss_that_is_no_number_ends_it_in_one_line(setting: Setting):
    class Spoiled(Watched):
        def __getitem__(self, index: Any) -> np.ndarray:
            return super().__getitem__(index) * np.float32(np.nan if len(self.read) > 10 else 1)

    recipe = Recipe(epochs=3, batch_size=8, inner=0)
    with pytest.raises(
        BadData, match=r"became NaN or infinite in epoch 2, step \d+; lower `learning_rate`, which is 0.001"
    ):
        setting.tuner(recipe).fit(Spoiled(setting.rows), setting.labels)


def test_one_class_is_refused(setting: Setting):
    with pytest.raises(BadData, match="at least 2 classes"):
        setting.tuner().fit(setting.rows, np.full(COUNT, "across"))


def test_adapters_train_and_nothing_else_does(stripes: Dataset, cache: FeatureCache):
    setting = Setting(stripes, cache, Net("glyphnet"), "block4_conv1", keep=True)
    recipe = Recipe(epochs=2, batch_size=8, inner=0, learning_rate=1e-2, lora=4)
    tuner = setting.tuner(recipe, network=setting.make(recipe))
    names = {variable.name for variable in tuner.network.model.trainable_variables}
    assert {"lora_kernel_a", "lora_kernel_b"} <= names
    assert sum(value.size for value in tuner.network.weights) < 40_000
    tuner.fit(setting.rows, setting.labels)
    losses = steps_of(tuner.stages_)
    assert losses[-1] < losses[0]
