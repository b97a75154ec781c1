"""Augmented views: the same wherever they are made, within the ranges asked for, known by one key."""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from feature_cache.errors import DamagedFile, InvalidChoice
from transfer.data.augment import Augmentation

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True, database=None)
EVERYTHING = "flip,vflip,rotate=30,shift=0.1,zoom=0.2,brightness=0.3,contrast=0.4"
DIGEST = bytes(range(16))
ALLOWED = "allowed: flip, vflip, rotate, shift, zoom, brightness, contrast."

AUGMENTATIONS = st.builds(
    Augmentation,
    flip=st.booleans(),
    vflip=st.booleans(),
    rotate=st.just(0.0) | st.floats(0, 180),
    shift=st.just(0.0) | st.floats(0, 0.5),
    zoom=st.just(0.0) | st.floats(0, 0.8),
    brightness=st.just(0.0) | st.floats(0, 1),
    contrast=st.just(0.0) | st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1) | st.just(2**100),
)
IMAGES = st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 3])).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape)
)
VIEWS = st.integers(0, 2**32 - 1) | st.integers(0, 3)


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (14, 17, 3), np.uint8)


def transform_of(augmentation: Augmentation, view: int, height: int = 100, width: int = 140) -> np.ndarray:
    """The affine transform of a view, found by where it moves spots: shape (2, 3), of (x, y, 1) about the centre."""
    y, x = np.mgrid[:height, :width] + 0.5 - np.array([height, width])[:, None, None] / 2
    places = [(0, 0), (14, 0), (0, 14), (-14, 6)]
    found = []
    for right, down in places:
        spot = np.uint8(np.rint(250 * np.exp(-((x - right) ** 2 + (y - down) ** 2) / 18)))[..., None]
        weight = augmentation(spot, DIGEST, view)[..., 0] / 1.0
        found.append([(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()])
    return np.linalg.lstsq(np.c_[places, np.ones(len(places))], np.array(found), rcond=None)[0].T


def scale_and_angle(transform: np.ndarray) -> tuple[float, float]:
    """Of a transform that neither mirrors nor shears; the angle counter-clockwise, in degrees."""
    (a, b), (c, d) = transform[:, :2]
    assert a == pytest.approx(d, abs=0.02)
    assert b == pytest.approx(-c, abs=0.02)
    return math.hypot(a, c), math.degrees(math.atan2(-c, a))


class TestEveryView:
    @PROPERTY
    @given(AUGMENTATIONS, IMAGES, st.binary(max_size=20), VIEWS)
    def test_shape_type_and_layout_are_kept_and_the_image_is_left_alone(
        self, augmentation: Augmentation, pixels: np.ndarray, digest: bytes, view: int
    ) -> None:
        before = pixels.copy()
        made = augmentation(pixels, digest, view)
        assert made.shape == pixels.shape
        assert made.dtype == np.uint8
        assert made.flags.c_contiguous
        np.testing.assert_array_equal(pixels, before)

    @PROPERTY
    @given(AUGMENTATIONS, IMAGES)
    def test_view_zero_is_the_image(self, augmentation: Augmentation, pixels: np.ndarray) -> None:
        np.testing.assert_array_equal(augmentation(pixels, DIGEST, 0), pixels)

    def test_pixels_may_be_read_only_and_in_any_layout(self, picture: np.ndarray) -> None:
        augmentation, rotated = Augmentation.parse(EVERYTHING), picture.transpose(1, 0, 2)
        rotated.flags.writeable = False
        for view in range(4):
            made = augmentation(rotated, DIGEST, view)
            assert made.flags.c_contiguous
            np.testing.assert_array_equal(made, augmentation(rotated.copy(), DIGEST, view))

    @PROPERTY
    @given(AUGMENTATIONS, IMAGES, VIEWS)
    def test_gray_is_treated_as_colour_is(self, augmentation: Augmentation, pixels: np.ndarray, view: int) -> None:
        gray = pixels[..., :1]
        colour = augmentation(np.repeat(gray, 3, axis=-1), DIGEST, view)
        np.testing.assert_array_equal(colour, np.repeat(augmentation(gray, DIGEST, view), 3, axis=-1))


class TestSameEverywhere:
    @PROPERTY
    @given(AUGMENTATIONS, IMAGES, st.permutations(range(6)))
    def test_order_does_not_matter(self, augmentation: Augmentation, pixels: np.ndarray, order: list[int]) -> None:
        made = {view: augmentation(pixels, DIGEST, view) for view in order}
        for view in range(6):
            np.testing.assert_array_equal(made[view], replace(augmentation)(pixels, DIGEST, view))

    def test_threads_do_not_matter(self, rng: np.random.Generator) -> None:
        augmentation = Augmentation.parse(EVERYTHING)
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        alone = [augmentation(pixels, DIGEST, view) for view in range(60)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda view: augmentation(pixels, DIGEST, view), [*range(60)] * 2))
        np.testing.assert_array_equal(together, alone * 2)

    def test_the_process_does_not_matter(
        self, picture: np.ndarray, run_python: Callable[..., subprocess.CompletedProcess[str]]
    ) -> None:
        code = """
import hashlib, random, sys
import numpy as np
from transfer.data.augment import Augmentation
random.seed(5), np.random.seed(5), np.random.random(7)
pixels = np.random.default_rng(0).integers(0, 256, (14, 17, 3), np.uint8)
augmentation = Augmentation.from_key(sys.argv[1])
views = [augmentation(pixels, bytes(range(16)), np.uint32(view)) for view in (9, 2, 5)]
print(hashlib.sha256(b"".join(view.tobytes() for view in views)).hexdigest())
"""
        augmentation = Augmentation.parse(EVERYTHING, seed=7)
        done = run_python(code, augmentation.key, PYTHONHASHSEED="3")
        assert done.returncode == 0, done.stderr
        here = b"".join(augmentation(picture, DIGEST, view).tobytes() for view in (9, 2, 5))
        assert done.stdout.strip() == hashlib.sha256(here).hexdigest()

    def test_views_of_this_version_stay_what_they_are(self) -> None:
        pixels = np.arange(40, 190, 10, dtype=np.uint8).reshape(3, 5, 1)
        made = [Augmentation.parse(EVERYTHING, seed=3)(pixels, DIGEST, view)[..., 0] for view in (1, 2)]
        # Another result means other features: raise the version in the key with it.
        first = [[153, 161, 157, 151, 140], [123, 117, 112, 106, 102], [80, 77, 85, 94, 102]]
        second = [[176, 187, 197, 185, 168], [174, 161, 144, 126, 109], [127, 102, 84, 83, 94]]
        np.testing.assert_allclose(np.array(made, int), [first, second], atol=2)


class TestDifferent:
    def test_views_digests_and_seeds_each_give_another_image(self, picture: np.ndarray) -> None:
        digests = [DIGEST, DIGEST[::-1], b"", b"1", b"1:", b"1:1"]
        made = {
            Augmentation.parse("rotate=30,shift=0.2", seed)(picture, digest, view).tobytes()
            for seed in (0, 1, 11, 2**32, 2**32 + 1)
            for digest in digests
            for view in (1, 2, 11, 12)
        }
        assert len(made) == 5 * 6 * 4

    @pytest.mark.parametrize("text", EVERYTHING.split(","))
    def test_each_option_does_something(self, picture: np.ndarray, text: str) -> None:
        views = {Augmentation.parse(text)(picture, DIGEST, view).tobytes() for view in range(1, 21)}
        assert len(views) == 2 if "flip" in text else len(views) == 20


class TestMirrored:
    def test_flips_are_exact_independent_and_each_in_half_of_the_views(self, picture: np.ndarray) -> None:
        counts = np.zeros(4, int)
        possible = [picture[::vertical, ::horizontal] for vertical in (1, -1) for horizontal in (1, -1)]
        for view in range(1, 401):
            made = Augmentation(flip=True, vflip=True)(picture, DIGEST, view)
            (which,) = [number for number, image in enumerate(possible) if np.array_equal(made, image)]
            counts[which] += 1
        assert counts.min() > 65  # 100 are expected, with a deviation of 9

    @pytest.mark.parametrize("option, axis", [("flip", 1), ("vflip", 0)])
    def test_each_mirrors_its_own_axis(self, picture: np.ndarray, option: str, axis: int) -> None:
        mirrored = 0
        for view in range(1, 31):
            made = Augmentation.parse(option)(picture, DIGEST, view)
            if not np.array_equal(made, picture):
                np.testing.assert_array_equal(made, np.flip(picture, axis))
                mirrored += 1
        assert 5 < mirrored < 25

    def test_a_view_keeps_its_flips_when_it_is_also_turned(self, picture: np.ndarray) -> None:
        for view in range(1, 16):
            flipped = not np.array_equal(Augmentation(flip=True)(picture, DIGEST, view), picture)
            transform = transform_of(Augmentation(flip=True, rotate=40, zoom=0.2), view)
            assert (np.linalg.det(transform[:, :2]) < 0) == flipped


class TestMoved:
    def test_a_shift_moves_all_by_the_same_shares_within_its_range(self) -> None:
        moves = []
        for view in range(1, 81):
            transform = transform_of(Augmentation(shift=0.2), view)
            np.testing.assert_allclose(transform[:, :2], np.eye(2), atol=0.01)
            moves.append(transform[:, 2] / (140, 100))
        assert 0.17 < np.abs(moves).max() < 0.201
        assert (np.min(moves, axis=0) < -0.17).all()
        assert (np.max(moves, axis=0) > 0.17).all()
        assert abs(np.corrcoef(np.transpose(moves))[0, 1]) < 0.3

    def test_a_rotation_turns_about_the_centre_within_its_range(self) -> None:
        angles = []
        for view in range(1, 81):
            transform = transform_of(Augmentation(rotate=50), view)
            scale, angle = scale_and_angle(transform)
            assert scale == pytest.approx(1, abs=0.01)
            np.testing.assert_allclose(transform[:, 2], 0, atol=0.1)
            angles.append(angle)
        assert -50.5 < min(angles) < -42
        assert 42 < max(angles) < 50.5

    def test_a_zoom_scales_about_the_centre_within_its_range(self) -> None:
        scales = []
        for view in range(1, 81):
            transform = transform_of(Augmentation(zoom=0.4), view)
            scale, angle = scale_and_angle(transform)
            assert angle == pytest.approx(0, abs=0.5)
            np.testing.assert_allclose(transform[:, 2], 0, atol=0.1)
            scales.append(scale)
        assert 0.59 < min(scales) < 0.68
        assert 1.32 < max(scales) < 1.41

    def test_all_together_is_mirrored_then_scaled_and_turned_then_shifted(self) -> None:
        parts = {"flip": True, "vflip": True, "rotate": 30, "zoom": 0.2, "shift": 0.1}
        for view in range(1, 16):
            alone = {name: transform_of(Augmentation(**{name: value}), view) for name, value in parts.items()}
            linear = np.eye(2)
            for name in ("flip", "vflip", "zoom", "rotate"):
                linear = alone[name][:, :2] @ linear
            together = transform_of(Augmentation(**parts), view)
            np.testing.assert_allclose(together, np.c_[linear, alone["shift"][:, 2]], atol=0.1)

    def test_half_a_turn_is_both_flips(self) -> None:
        smooth = np.uint8(np.add.outer(np.arange(40) * 3, np.arange(50) * 2))[..., None]
        angles = {view: scale_and_angle(transform_of(Augmentation(rotate=180), view))[1] for view in range(1, 200)}
        view, angle = max(angles.items(), key=lambda item: abs(item[1]))
        assert abs(angle) > 178
        made = Augmentation(rotate=180)(smooth, DIGEST, view).astype(int)
        np.testing.assert_allclose(made, smooth[::-1, ::-1], atol=4)

    @PROPERTY
    @given(AUGMENTATIONS, IMAGES, st.integers(1, 99), st.integers(0, 255))
    def test_a_constant_image_stays_constant(
        self, augmentation: Augmentation, image: np.ndarray, view: int, value: int
    ) -> None:
        geometry = replace(augmentation, brightness=0, contrast=0)
        assert (geometry(np.full_like(image, value), DIGEST, view) == value).all()

    def test_the_border_goes_on_outwards(self) -> None:
        ramp = np.repeat(np.arange(60, 180, 3, dtype=np.uint8)[:, None, None], 30, axis=1)  # 40 rows
        for view in range(1, 30):
            made = Augmentation(shift=0.5)(ramp, DIGEST, view)[..., 0].astype(int)
            assert (made == made[:, :1]).all()
            steps = np.diff(made[:, 0])
            assert (steps >= 0).all()
            assert made.min() == 60 or made.max() == 177
            inside = (made[:, 0] > 60) & (made[:, 0] < 177)
            assert (np.abs(np.diff(made[inside, 0]) - 3) <= 1).all()
            rows_of_border = (~inside).sum()
            assert rows_of_border <= 40 * 0.5 + 2

    def test_nothing_is_invented(self, rng: np.random.Generator) -> None:
        pixels = rng.integers(90, 111, (13, 8, 3), np.uint8)
        for view in range(1, 40):
            made = Augmentation(rotate=180, shift=0.5, zoom=0.5)(pixels, DIGEST, view)
            assert 90 <= made.min() <= made.max() <= 110


class TestRelit:
    def test_brightness_multiplies_within_its_range(self) -> None:
        pixels = np.full((3, 4, 3), 100, np.uint8)
        made = [Augmentation(brightness=0.3)(pixels, DIGEST, view) for view in range(1, 201)]
        assert all((image == image[0, 0, 0]).all() for image in made)
        values = [int(image[0, 0, 0]) for image in made]
        assert 70 <= min(values) < 74
        assert 126 < max(values) <= 130
        assert np.mean(values) == pytest.approx(100, abs=4)

    def test_contrast_keeps_the_mean_and_spreads_within_its_range(self) -> None:
        pixels = np.array([[80, 120, 80, 120]], np.uint8)[..., None]
        made = np.array([Augmentation(contrast=0.5)(pixels, DIGEST, view) for view in range(1, 201)], int)[..., 0, :, 0]
        np.testing.assert_allclose(made.mean(axis=1), 100, atol=0.5)
        spread = made[:, 1] - made[:, 0]
        assert 20 <= spread.min() < 24
        assert 56 < spread.max() <= 60

    def test_contrast_has_one_mean_for_all_channels(self) -> None:
        pixels = np.full((4, 4, 3), (60, 100, 140), np.uint8)
        for view in range(1, 20):
            red, green, blue = Augmentation(contrast=1)(pixels, DIGEST, view)[0, 0].astype(int)
            assert green == 100
            assert 100 - red == blue - 100, "rounded to the nearest"

    @PROPERTY
    @given(st.floats(0, 1), st.floats(0.01, 1), st.integers(1, 2**32 - 1))
    def test_values_stop_at_black_and_white(self, brightness: float, contrast: float, view: int) -> None:
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
        made = Augmentation(brightness=brightness, contrast=contrast)(ramp, DIGEST, view)
        assert (np.diff(made.ravel().astype(int)) >= 0).all(), "what was lighter is still no darker"

    def test_black_and_white_are_reached(self) -> None:
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
        made = [Augmentation(brightness=1, contrast=1)(ramp, DIGEST, view).ravel() for view in range(1, 60)]
        assert any((image[:20] == 0).all() and image[-1] for image in made)
        assert any((image[-20:] == 255).all() for image in made)

    @PROPERTY
    @given(AUGMENTATIONS, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 2**32 - 1))
    def test_light_leaves_a_view_its_geometry(
        self, augmentation: Augmentation, brightness: float, contrast: float, view: int
    ) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8)
        plain = replace(augmentation, brightness=0, contrast=0)(pixels, DIGEST, view).ravel()
        relit = replace(augmentation, brightness=brightness, contrast=contrast)(pixels, DIGEST, view).ravel()
        order = np.argsort(plain, kind="stable")
        assert (np.diff(relit[order].astype(int)) >= 0).all()
        for value in np.unique(plain):
            assert len(np.unique(relit[plain == value])) == 1


class TestParse:
    def test_all_options(self) -> None:
        assert Augmentation.parse(EVERYTHING, seed=4) == Augmentation(
            flip=True, vflip=True, rotate=30, shift=0.1, zoom=0.2, brightness=0.3, contrast=0.4, seed=4
        )

    def test_spaces_do_not_matter(self) -> None:
        assert Augmentation.parse(" flip , rotate = 15 ") == Augmentation(flip=True, rotate=15)

    @pytest.mark.parametrize("text", ["rotate=180", "shift=0.5", "zoom=0.9", "brightness=1", "contrast=1"])
    def test_the_ends_of_a_range_belong_to_it(self, text: str) -> None:
        assert text in Augmentation.parse(text).key

    @pytest.mark.parametrize(
        "text, message",
        [
            ("", "there is no augmentation ''; " + ALLOWED),
            ("flip,,zoom=0.1", "there is no augmentation ''; " + ALLOWED),
            ("seed=3", "there is no augmentation 'seed'; " + ALLOWED),
            ("bright=1", "there is no augmentation 'bright'; did you mean 'brightness'?"),
            ("Flip", "there is no augmentation 'Flip'; did you mean 'flip'?"),
            ("flip=3", "flip takes no value; received 'flip=3'."),
            ("vflip=", "vflip takes no value; received 'vflip='."),
            ("flip,zoom=0.1,flip", "flip is given twice in 'flip,zoom=0.1,flip'; give it once."),
            ("rotate", "rotate needs a number of degrees from 0 to 180; received 'rotate'."),
            ("flip, shift=", "shift needs a share of the sides from 0 to 0.5; received 'shift='."),
            ("rotate=left", "rotate is a number of degrees from 0 to 180; received 'left'."),
            ("rotate=3=4", "rotate is a number of degrees from 0 to 180; received '3=4'."),
            ("rotate=180.1", "rotate is a number of degrees from 0 to 180; received '180.1'."),
            ("shift=0.6", "shift is a share of the sides from 0 to 0.5; received '0.6'."),
            ("zoom=1", "zoom is a number from 0 to 0.9; received '1'."),
            ("brightness=nan", "brightness is a number from 0 to 1; received 'nan'."),
            ("contrast=inf", "contrast is a number from 0 to 1; received 'inf'."),
            ("contrast=-0.1", "contrast is a number from 0 to 1; received '-0.1'."),
            ("contrast=\n", "contrast needs a number from 0 to 1; received 'contrast='."),
            ("rotate=0", "the augmentation 'rotate=0' does nothing; give a value above 0, or no augmentation."),
            (
                "zoom=0,shift=-0",
                "the augmentation 'zoom=0,shift=-0' does nothing; give a value above 0, or no augmentation.",
            ),
        ],
    )
    def test_mistakes_are_refused_with_what_is_allowed(self, text: str, message: str) -> None:
        with pytest.raises(InvalidChoice) as refused:
            Augmentation.parse(text, seed=5)
        assert str(refused.value) == message

    @PROPERTY
    @given(st.text(max_size=30) | st.lists(st.sampled_from([*"=,\n 19.-", "flip", "zoom"]), max_size=8).map("".join))
    def test_any_text_is_an_augmentation_or_refused_in_one_line(self, text: str) -> None:
        try:
            assert Augmentation.parse(text).key
        except InvalidChoice as error:
            assert "\n" not in str(error)

    @pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True])
    def test_a_seed_is_a_whole_number(self, seed: object) -> None:
        with pytest.raises(InvalidChoice) as refused:
            Augmentation.parse("flip", seed)
        assert str(refused.value) == f"seed is a whole number from 0; received {seed!r}."

    def test_made_from_python_it_is_checked_too_and_stays_as_it_is(self) -> None:
        for value in (181, None, 10**400):
            with pytest.raises(InvalidChoice, match="^rotate is a number of degrees from 0 to 180; received "):
                Augmentation(rotate=value)
        with pytest.raises(FrozenInstanceError):
            Augmentation(rotate=3).rotate = 4


class TestKey:
    def test_it_is_sorted_and_says_what_is_used(self) -> None:
        assert Augmentation.parse("rotate=15,brightness=0.1,flip").key == "v1:brightness=0.1,flip,rotate=15,seed=0"
        everything = "v1:brightness=0.3,contrast=0.4,flip,rotate=30,seed=9,shift=0.1,vflip,zoom=0.2"
        assert Augmentation.parse(EVERYTHING, seed=9).key == everything

    @PROPERTY
    @given(AUGMENTATIONS)
    def test_it_gives_the_augmentation_back(self, augmentation: Augmentation) -> None:
        again = Augmentation.from_key(augmentation.key)
        assert again == augmentation
        assert again.key == augmentation.key

    @PROPERTY
    @given(AUGMENTATIONS, AUGMENTATIONS)
    def test_equal_keys_are_equal_augmentations(self, one: Augmentation, other: Augmentation) -> None:
        assert (one.key == other.key) == (one == other)

    @PROPERTY
    @given(st.permutations(EVERYTHING.split(",")))
    def test_the_order_of_writing_does_not_matter(self, parts: list[str]) -> None:
        assert Augmentation.parse(",".join(parts)).key == Augmentation.parse(EVERYTHING).key

    @pytest.mark.parametrize("number", ["15", "15.0", "1.5e1", "+15", "015", "15.00000"])
    def test_the_way_a_number_is_written_does_not_matter(self, number: str) -> None:
        assert Augmentation.parse(f"rotate={number},zoom=0").key == "v1:rotate=15,seed=0"

    @pytest.mark.parametrize("number", [15, 15.0, np.float32(15), np.int64(15)])
    def test_nor_does_its_type(self, number: float) -> None:
        assert Augmentation(rotate=number).key == "v1:rotate=15,seed=0"

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "v1:",
            "v1:flip",
            "flip,seed=0",
            "v2:flip,seed=0",
            "v1:v1:flip,seed=0",
            "v1:seed=0,flip",
            "v1:flip,flip,seed=0",
            "v1:flip=,seed=0",
            "v1:flip=3,seed=0",
            "v1:rotate,seed=0",
            "v1:rotate=15.0,seed=0",
            "v1:rotate=0,seed=0",
            "v1:rotate=nan,seed=0",
            "v1:rotate=200,seed=0",
            "v1:blur=2,seed=0",
            "v1:flip,seed=-1",
            "v1:flip,seed=00",
            "v1:flip,seed",
            "v1:flip,seed=x",
            "v1:flip,seed=0 ",
            "v1:flip,seed=0\n",
            "v1:flip,,seed=0",
            "v1:flip,seed=" + "9" * 5000,
        ],
    )
    def test_anything_else_is_refused(self, key: str) -> None:
        with pytest.raises(DamagedFile) as refused:
            Augmentation.from_key(key)
        assert str(refused.value) == f"{key!r} is not the key of an augmentation of this version of Layertap."

    @PROPERTY
    @given(st.text(max_size=20).map("v1:{},seed=0".format) | st.text(max_size=20))
    def test_any_text_is_the_key_of_what_it_gives_or_refused(self, text: str) -> None:
        try:
            assert Augmentation.from_key(text).key == text
        except DamagedFile as error:
            assert "\n" not in str(error)
