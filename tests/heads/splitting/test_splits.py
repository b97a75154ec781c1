"""Splits: every row on one side, every class on both, and copies of an image never apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, train_test_split

from feature_cache.errors import BadData, InvalidChoice
from heads.splitting.splits import few_labels, hold_out, inner_folds, k_fold, stratified, stratified_folds

LABELS = np.array(["ant"] * 20 + ["bee"] * 12 + ["cicada"] * 8)[np.random.default_rng(5).permutation(40)]
DISTINCT = np.arange(40)
# 40 rows of 24 groups: each content has the label of its first row everywhere.
COPIES = np.concatenate([np.arange(24), np.arange(16)])
COPIED_LABELS = np.array(["ant", "bee", "cicada"])[COPIES % 3]

SPLITTERS: dict[str, Callable] = {
    "k_fold": lambda labels, groups, seed: list(k_fold(labels, groups, 4, seed)),
    "hold_out": lambda labels, groups, seed: [hold_out(labels, groups, 0.3, seed)],
    "few_labels": lambda labels, groups, seed: [few_labels(labels, groups, 3, seed)],
    "inner_folds": lambda labels, groups, seed: inner_folds(labels, groups, seed),
}
each_splitter = pytest.mark.parametrize("split", SPLITTERS.values(), ids=SPLITTERS)


@each_splitter
@pytest.mark.parametrize(("labels", "groups"), [(LABELS, DISTINCT), (COPIED_LABELS, COPIES)], ids=["all", "copies"])
def test_sides_are_disjoint_and_cover_every_row(split: Callable, labels: np.ndarray, groups: np.ndarray):
    for train, held_out in split(labels, groups, 0):
        assert sorted([*train, *held_out]) == list(range(len(labels)))


@each_splitter
def test_both_sides_hold_every_class(split: Callable):
    for train, held_out in split(LABELS, DISTINCT, 0):
        assert set(LABELS[train]) == set(LABELS[held_out]) == set(LABELS)


@each_splitter
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_one_content_are_never_on_both_sides(split: Callable, seed: int):
    for train, held_out in split(COPIED_LABELS, COPIES, seed):
        assert not set(COPIES[train]) & set(COPIES[held_out])


@each_splitter
def test_copies_that_are_labelled_differently_stay_together(split: Callable):
    labels = COPIED_LABELS.copy()
    labels[30:] = "ant"
    for train, held_out in split(labels, COPIES, 0):
        assert not set(COPIES[train]) & set(COPIES[held_out])
        assert len(train) + len(held_out) == 40


@each_splitter
def test_seed_decides(split: Callable):
    def sides(seed: int) -> list:
        return [(train.tolist(), held_out.tolist()) for train, held_out in split(LABELS, DISTINCT, seed)]

    assert sides(3) == sides(3)
    assert sides(3) != sides(4)


@each_splitter
def test_names_of_the_contents_do_not_matter(split: Callable):
    names = np.array([f"{(7 * content) % 24:02}" for content in COPIES])
    for one, other in zip(split(COPIED_LABELS, COPIES, 1), split(COPIED_LABELS, names, 1), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_k_folds_hold_out_each_row_once_in_equal_shares_of_each_class():
    folds = list(k_fold(LABELS, DISTINCT, 4, 0))
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(40))
    for _, held_out in folds:
        assert {name: (LABELS[held_out] == name).sum() for name in ("ant", "bee", "cicada")} == {
            "ant": 5,
            "bee": 3,
            "cicada": 2,
        }


def test_k_fold_refuses_one_fold():
    with pytest.raises(InvalidChoice) as caught:
        list(k_fold(LABELS, DISTINCT, 1, 0))
    assert str(caught.value) == "`cv` needs at least 2 folds; received 1."


def test_k_fold_refuses_more_folds_than_images_of_the_rarest_class():
    with pytest.raises(BadData) as caught:
        list(k_fold(LABELS, DISTINCT, 9, 0))
    assert str(caught.value) == (
        "9 folds need at least 9 distinct images of each class; 'cicada' has 8: choose fewer with `cv`."
    )


def test_copies_do_not_count_as_images():
    labels, groups = np.array(["a"] * 6 + ["b"] * 6), np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8])
    with pytest.raises(BadData, match="'b' has 3"):
        list(k_fold(labels, groups, 4, 0))
    with pytest.raises(BadData, match="'b' has 3"):
        few_labels(labels, groups, 3, 0)


@pytest.mark.parametrize(("share", "held"), [(0.2, 8), (0.25, 10), (0.5, 20)])
def test_hold_out_takes_the_share_from_each_class(share: float, held: int):
    train, held_out = hold_out(LABELS, DISTINCT, share, 0)
    assert len(held_out) == held
    for name, count in (("ant", 20), ("bee", 12), ("cicada", 8)):
        assert abs((LABELS[held_out] == name).sum() - share * count) < 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 20.0, float("nan")])
def test_hold_out_refuses_what_is_not_a_share(share: float):
    with pytest.raises(InvalidChoice) as caught:
        hold_out(LABELS, DISTINCT, share, 0)
    assert str(caught.value) == (f"`valid` is the share of images to hold out, between 0 and 1; received {share:g}.")


@pytest.mark.parametrize("share", [0.01, 0.05, 0.95])
def test_hold_out_refuses_to_leave_a_side_without_some_class(share: float):
    with pytest.raises(BadData) as caught:
        hold_out(LABELS, DISTINCT, share, 0)
    assert str(caught.value) == (
        f"holding out {share:g} of 40 images leaves a side with fewer than one of each of the 3 classes; "
        "choose another `valid`."
    )


def test_hold_out_refuses_classes_of_one_image_alone():
    with pytest.raises(BadData) as caught:
        hold_out(np.array(["a", "b"]), np.arange(2), 0.5, 0)
    assert str(caught.value) == "a split needs at least 2 distinct images of each class; 'a' has 1: add some."


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("counts", [(60, 60, 2), (100, 3, 3, 3), (2, 2, 2, 2), (50, 2), (50, 30, 1)], ids=str)
def test_hold_out_of_rare_classes_is_refused_or_holds_out_all_but_the_smallest(counts: tuple[int, ...], share: float):
    labels = np.repeat([f"class {number}" for number in range(len(counts))], counts)
    both = {name for name in labels if (labels == name).sum() > 2 or max(counts) == 2}
    for seed in range(5):
        try:
            train, held_out = hold_out(labels, np.arange(len(labels)), share, seed)
        except BadData:
            continue
        assert set(labels[train]) == set(labels)
        assert set(labels[held_out]) - both <= ({"class 1", "class 2"} if share == 0.5 else set())
        assert both <= set(labels[held_out])
        assert sorted([*train, *held_out]) == list(range(len(labels)))


@pytest.mark.parametrize("few", [1, 2])
def test_classes_of_one_or_two_images_are_for_training_only(few: int):
    labels = np.array(["a"] * 9 + ["b"] * 9 + ["c"] * few)
    rows = np.arange(len(labels))
    for splits in (list(k_fold(labels, rows, 3, 0)), [hold_out(labels, rows, 0.2, 0)]):
        for train, held_out in splits:
            assert set(labels[held_out]) == {"a", "b"}
            assert (labels[train] == "c").sum() == few
            assert sorted([*train, *held_out]) == rows.tolist()


def test_what_stays_together_with_a_rare_class_is_for_training_only():
    labels, groups = np.array(["a"] * 9 + ["b"] * 9 + ["c"]), np.append(np.arange(18), 0)
    for train, held_out in k_fold(labels, groups, 3, 0):
        assert {0, 18} <= set(train)
        assert 0 not in held_out


@pytest.mark.parametrize("per_class", [1, 3, 7])
def test_few_labels_trains_on_so_many_of_each_class(per_class: int):
    train, held_out = few_labels(LABELS, DISTINCT, per_class, 0)
    assert {name: (LABELS[train] == name).sum() for name in set(LABELS)} == dict.fromkeys(set(LABELS), per_class)
    assert len(held_out) == 40 - 3 * per_class


def test_few_labels_counts_contents_and_takes_their_copies_along():
    train, _ = few_labels(COPIED_LABELS, COPIES, 2, 0)
    assert len(np.unique(COPIES[train])) == 6
    assert len(train) == np.isin(COPIES, COPIES[train]).sum()


def test_few_labels_draws_every_image_in_the_long_run():
    drawn = {row for seed in range(60) for row in few_labels(LABELS, DISTINCT, 1, seed)[0].tolist()}
    assert len(drawn) > 30


def test_few_labels_refuses_none():
    with pytest.raises(InvalidChoice) as caught:
        few_labels(LABELS, DISTINCT, 0, 0)
    assert str(caught.value) == "`per_class` needs at least 1 image of each class; received 0."


def test_few_labels_refuses_to_leave_none_to_hold_out():
    with pytest.raises(BadData) as caught:
        few_labels(LABELS, DISTINCT, 8, 0)
    assert str(caught.value) == (
        "8 labels per class need at least 9 distinct images of each class; 'cicada' has 8: "
        "choose fewer with `per_class`."
    )


@pytest.mark.parametrize(("rarest", "folds"), [(2, 2), (3, 3), (9, 3)])
def test_inner_folds_are_three_or_as_many_as_the_rarest_class_allows(rarest: int, folds: int):
    labels = np.array(["a"] * 10 + ["b"] * rarest)
    assert len(inner_folds(labels, np.arange(len(labels)), 0)) == folds


@pytest.mark.parametrize(("n", "folds"), [(999, 3), (1000, 1)])
def test_one_inner_fold_is_enough_for_many_rows(n: int, folds: int):
    labels = np.array(["a", "b"])[np.arange(n) % 2]
    made = inner_folds(labels, np.arange(n), 0)
    assert len(made) == folds
    for train, held_out in made:
        assert sorted([*train, *held_out]) == list(range(n))
        assert abs(len(held_out) - n / 3) < 2


def test_inner_folds_refuse_classes_of_one_image_alone():
    with pytest.raises(BadData) as caught:
        inner_folds(np.array(["a", "b"]), np.arange(2), 0)
    assert str(caught.value) == (
        "choosing among training images needs at least 2 distinct images of each class; 'a' has 1: "
        "name one layer, without `grid` or `calibrate`."
    )


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_held_out_as_scikit_learn_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = int(random.integers(1, 9))
    labels = random.permutation(np.repeat([f"class {i}" for i in range(k)], random.integers(2, 30, k)))
    held = int(random.integers(k, len(labels) - k + 1))
    theirs = train_test_split(np.arange(len(labels)), test_size=held, stratify=labels, random_state=seed)
    for ours, its in zip(stratified(labels, held, seed), theirs, strict=True):
        np.testing.assert_array_equal(ours, its)


def test_inner_folds_keep_the_only_image_of_a_class_for_training():
    for train, held_out in inner_folds(np.array(["a", "a", "b", "c", "c"]), np.arange(5), 0):
        assert 2 in train
        assert len(held_out) == 2


@pytest.mark.parametrize("seed", range(20))
def test_folds_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    k, classes = int(random.integers(2, 7)), int(random.integers(1, 9))
    labels = random.permutation(np.repeat([f"class {i}" for i in range(classes)], random.integers(k, 30, classes)))
    fold = stratified_folds(labels, k, seed)
    theirs = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    for number, (train, held_out) in enumerate(theirs):
        np.testing.assert_array_equal(np.flatnonzero(fold != number), train)
        np.testing.assert_array_equal(np.flatnonzero(fold == number), held_out)
