"""Heads by name, and parameters given as text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from feature_cache.errors import InvalidChoice
from heads import HEADS, make_head
from heads.registry import head_class


def refusal(name: str, params: dict) -> str:
    with pytest.raises(InvalidChoice) as caught:
        make_head(name, params)
    return str(caught.value)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_made_with_its_defaults_and_anew(name: str):
    head = make_head(name)
    assert type(head) is head_class(name)
    assert head is not make_head(name)
    assert make_head(name, {}).get_params() == make_head(name, head.get_params()).get_params() == head.get_params()


def test_texts_become_the_types_of_the_parameters():
    params = {"hidden": "32", "dropout": "0", "learning_rate": "1e-2", "seed": "7", "inner": "0.25"}
    head = make_head("mlp", params)
    got = {key: head.get_params()[key] for key in params}
    assert got == {"hidden": 32, "dropout": 0.0, "learning_rate": 0.01, "seed": 7, "inner": 0.25}
    assert {key: type(value) for key, value in got.items()} == {
        "hidden": int,
        "dropout": float,
        "learning_rate": float,
        "seed": int,
        "inner": float,
    }


def test_values_of_their_type_are_taken_as_they_are():
    assert make_head("logistic", {"C": 3, "max_iter": 5}).get_params() == {"C": 3.0, "max_iter": 5}
    assert type(make_head("logistic", {"C": 3}).get_params()["C"]) is float


def test_parameter_without_a_default_may_be_given_or_not():
    for C in (None, "null"):
        assert make_head("logistic", {"C": C}).get_params()["C"] is None
    for C in (2, 2.0, "2", "2.0"):
        value = make_head("logistic", {"C": C}).get_params()["C"]
        assert (value, type(value)) == (2.0, float)
    assert refusal("logistic", {"C": "true"}) == "C=True of the head 'logistic' should be of type float."


def test_unknown_head_is_refused_with_the_nearest():
    assert refusal("logstic", {}) == "there is no head 'logstic'; did you mean 'logistic'?"
    assert refusal("forest", {}) == "there is no head 'forest'; allowed: logistic, mlp."


def test_unknown_parameter_is_refused_with_the_nearest():
    assert refusal("mlp", {"droput": "0.1"}) == "the head 'mlp' has no parameter 'droput'; did you mean 'dropout'?"
    assert refusal("logistic", {"zzz": 1}) == "the head 'logistic' has no parameter 'zzz'; allowed: C, max_iter."


def test_text_that_is_no_number_is_refused():
    assert refusal("logistic", {"C": "big"}) == "C=big of the head 'logistic' is not a number."
    assert refusal("mlp", {"hidden": ""}) == "hidden= of the head 'mlp' is not a number; its default is 256."


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hidden": "1.5"}, "hidden=1.5 of the head 'mlp' should be of type int."),
        ({"hidden": "true"}, "hidden=True of the head 'mlp' should be of type int."),
        ({"hidden": True}, "hidden=True of the head 'mlp' should be of type int."),
        ({"dropout": "true"}, "dropout=True of the head 'mlp' should be of type float."),
        ({"dropout": "[0.1]"}, "dropout=[0.1] of the head 'mlp' should be of type float."),
        ({"dropout": '"0.1"'}, "dropout='0.1' of the head 'mlp' should be of type float."),
        ({"seed": "null"}, "seed=None of the head 'mlp' should be of type int."),
        ({"epochs": None}, "epochs=None of the head 'mlp' should be of type int."),
    ],
    ids=str,
)
def test_value_of_another_type_is_refused(params: dict, message: str):
    assert refusal("mlp", params) == message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_value_that_is_not_finite_is_refused(value: str):
    assert "C=" in refusal("logistic", {"C": value})


def test_importing_heads_loads_neither_scikit_learn_nor_keras():
    code = (
        "import sys, heads; heads.HEADS; loaded = {'sklearn', 'keras', 'tensorflow', 'matplotlib'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_making_a_logistic_head_does_not_load_keras():
    code = (
        "import heads; heads.make_head('logistic', {'C': '0.1'}); "
        "loaded = {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules); assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
