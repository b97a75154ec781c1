"""Splits that come with the data, groups, and repeated folds."""

import numpy as np
import pytest

from feature_cache.errors import BadData
from heads.evaluation.protocol import Protocol
from heads.splitting.predefined import predefined_split
from heads.splitting.splits import few_labels, hold_out, inner_folds, k_fold


def parts(text: str) -> np.ndarray:
    return np.array(text.split())


def test_train_valid_and_test_in_any_case_and_other_words():
    protocol = Protocol(predefined=predefined_split("part", parts("Train train VAL test dev Training testing")))
    made, rows, aside = protocol.divide(parts("a b a b a b a"), np.arange(7))
    ((train, held_out),) = made
    assert (train.tolist(), held_out.tolist()) == ([0, 1, 5], [2, 4])
    assert (rows.tolist(), aside.tolist()) == ([0, 1, 2, 4, 5], [3, 6])
    assert protocol.as_dict()["given"] == "part"


def test_each_named_fold_is_held_out_once_and_the_test_never():
    made, rows, aside = Protocol(predefined=predefined_split("fold", parts("1 2 3 1 test 2"))).divide(
        parts("a b a b a b"), np.arange(6)
    )
    assert [held_out.tolist() for _, held_out in made] == [[0, 3], [1, 5], [2]]
    assert [train.tolist() for train, _ in made] == [[1, 2, 5], [0, 2, 3], [0, 1, 3, 5]]
    assert (rows.tolist(), aside.tolist()) == ([0, 1, 2, 3, 5], [4])


def test_without_held_out_parts_the_training_rows_are_split_as_asked():
    labels, names = np.tile(["a", "b"], 10), np.repeat(["train", "test"], [12, 8])
    made, _, aside = Protocol(cv=3, predefined=predefined_split("part", names)).divide(labels, np.arange(20))
    assert len(made) == 3
    assert sorted(np.concatenate([held_out for _, held_out in made])) == list(range(12))
    assert aside.tolist() == list(range(12, 20))


@pytest.mark.parametrize("text", ["train other", "valid valid", "test test", "one one"])
def test_names_that_make_no_split_are_refused(text: str):
    with pytest.raises(BadData, match="splits in 'part'"):
        predefined_split("part", parts(text))


def test_equal_images_in_several_parts_are_counted():
    splits = predefined_split("part", parts("train valid train test train"))
    assert splits.count_divided(np.array([0, 0, 1, 2, 3])) == 2
    assert splits.count_divided(np.array([0, 1, 2, 2, 2])) == 3
    assert splits.count_divided(np.array([0, 1, 0, 3, 0])) == 0


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_groups_never_part(pure: bool, seed: int):
    rng = np.random.default_rng(seed)
    groups = rng.integers(40, size=300)
    labels = (groups % 3 if pure else rng.integers(3, size=300)).astype(str)
    splits = [
        *k_fold(labels, groups, 5, seed),
        hold_out(labels, groups, 0.2, seed),
        hold_out(labels, groups, 0.8, 1),
    ]
    splits += inner_folds(labels, groups, seed)
    for train, held_out in splits:
        assert not set(groups[train]) & set(groups[held_out])
        assert sorted([*train, *held_out]) == list(range(300))
        assert set(labels[train]) == set(labels[held_out]) == {"0", "1", "2"}
    share = [len(held_out) / 300 for _, held_out in splits[5:7]]
    assert share == pytest.approx([0.2, 0.8], abs=0.1)


def test_repeated_folds_differ_and_each_holds_out_every_row():
    labels = np.tile(["a", "b"], 15)
    splits = Protocol(cv=3, repeats=4).splits(labels, np.arange(30))
    assert len(splits) == 12
    rounds = [np.concatenate([held_out for _, held_out in splits[at : at + 3]]) for at in range(0, 12, 3)]
    assert all(sorted(each) == list(range(30)) for each in rounds)
    assert len({tuple(splits[at][1]) for at in range(0, 12, 3)}) == 4


def test_numbers_are_split_without_classes():
    targets = np.linspace(0, 1, 20)
    for protocol in (Protocol(cv=4), Protocol(valid=0.25)):
        for train, held_out in protocol.splits(targets, np.arange(20)):
            assert (len(train), len(held_out)) == (15, 5)
    with pytest.raises(BadData, match="4 folds need at least 4 distinct images; there are 3: choose fewer with `cv`."):
        Protocol(cv=4).splits(targets[:3], np.arange(3))


def test_draws_of_few_labels_keep_copies_together():
    groups = np.repeat(np.arange(10), 2)
    train, held_out = few_labels(np.tile(["a", "a", "b", "b"], 5), groups, 2, 0)
    assert not set(groups[train]) & set(groups[held_out])
