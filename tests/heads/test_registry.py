"""Heads by name, and parameters given as text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.multiclass import OutputCodeClassifier
from sklearn.svm import SVC

from feature_cache.errors import InvalidChoice
from heads import HEADS, make_head
from heads.parameters import parameters, plain_parameters
from heads.registry import new_head, seeded
from heads.wrappers.classifiers import EstimatorHead


def refusal(name: str, params: dict) -> str:
    with pytest.raises(InvalidChoice) as caught:
        make_head(name, params)
    return str(caught.value)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_made_with_its_defaults_and_anew(name: str):
    head = make_head(name)
    assert type(head) is type(new_head(name))
    assert head is not make_head(name)
    params = parameters(head)
    texts = {key: repr(value) for key, value in params.items()}
    for again in (make_head(name, {}), make_head(name, plain_parameters(head))):
        assert {key: repr(value) for key, value in parameters(again).items()} == texts
    json.dumps(plain_parameters(head))
    assert set(params) - set(plain_parameters(head)) <= {"covariance_estimator"}


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
    params = make_head("logistic", {"C": 3, "max_iter": 5, "scale": False}).get_params()
    assert (params["C"], params["max_iter"], params["scale"], params["pca"]) == (3.0, 5, False, None)
    assert type(make_head("logistic", {"C": 3}).get_params()["C"]) is float


def test_parameter_without_a_default_may_be_given_or_not():
    for C in (None, "null"):
        assert make_head("logistic", {"C": C}).get_params()["C"] is None
    for C in (2, 2.0, "2", "2.0"):
        value = make_head("logistic", {"C": C}).get_params()["C"]
        assert (value, type(value)) == (2.0, float)
    assert refusal("logistic", {"C": "true"}) == "C=True of the head 'logistic' should be of type float."


def test_unknown_head_is_refused_with_the_nearest():
    others = "Others are named as sklearn.svm:SVC or FILE.py:make_head."
    assert refusal("logstic", {}) == f"there is no head 'logstic'; did you mean 'logistic'? {others}"
    assert refusal("zebra", {}).startswith("there is no head 'zebra'")
    assert refusal("zebra", {}).endswith(others)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sklearn.svm:SVCC", "sklearn.svm has no classifier 'SVCC'; did you mean 'SVC'"),
        ("sklearn.svm:_classes", "sklearn.svm has no classifier '_classes'"),
        ("sklearn.smv:SVC", "scikit-learn has no module 'sklearn.smv'."),
        ("sklearn.svm:SVR", "SVR of sklearn.svm is not a classifier."),
        ("sklearn.linear_model:Ridge", "Ridge of sklearn.linear_model is not a classifier."),
        ("sklearn.preprocessing:StandardScaler", "StandardScaler of sklearn.preprocessing is not a classifier."),
        (
            "sklearn.ensemble:VotingClassifier",
            "VotingClassifier of sklearn.ensemble needs arguments that are no text; ",
        ),
        ("sklearn.utils:warnings", "sklearn.utils has no classifier 'warnings'"),
        ("sklearn.base:clone", "sklearn.base has no classifier 'clone'"),
        ("os:system", "the head 'os:system' is not imported; a path is that of a classifier of scikit-learn, such as"),
        ("sklearn_evil.svm:SVC", "is not imported; a path is that of a classifier of scikit-learn"),
        ("sklearn.svm:SVC.fit", "is not imported"),
        ("sklearn..svm:SVC", "is not imported"),
        ("sklearn:svm:SVC", "is not imported"),
        (":", "is not imported"),
        (
            "heads.wrappers.prototypes:Prototypes",
            "write a file with a function that returns it: `head='FILE.py:make_head'`.",
        ),
    ],
)
def test_import_path_that_is_none_is_refused(path: str, message: str):
    assert message in refusal(path, {})


def test_a_classifier_with_neither_probabilities_nor_decision_values_is_refused_when_it_is_fitted():
    with pytest.raises(InvalidChoice, match="OutputCodeClassifier has neither predict_proba nor decision_function."):
        EstimatorHead(OutputCodeClassifier(SVC())).fit([[0.0], [1.0]], [0, 1])


def test_unknown_parameter_is_refused_with_the_nearest():
    assert refusal("mlp", {"droput": "0.1"}) == "the head 'mlp' has no parameter 'droput'; did you mean 'dropout'?"
    assert refusal("logistic", {"zzz": 1}) == (
        "the head 'logistic' has no parameter 'zzz'; allowed: C, calibrate, class_weight, max_iter, pca, scale."
    )
    assert refusal("svm-rbf", {"gama": 1}) == "the head 'svm-rbf' has no parameter 'gama'; did you mean 'gamma'?"
    assert refusal("sklearn.svm:SVC", {"c": 1}).startswith("the head 'sklearn.svm:SVC' has no parameter 'c'")
    assert "has no parameter 'estimator'" in refusal("knn", {"estimator": 1})


def test_parameters_of_the_wrapped_classifier_have_its_own_names():
    head = make_head("svm-rbf", {"C": "10", "gamma": "auto", "class_weight": "balanced", "pca": "0.95"})
    assert (head.estimator.C, head.estimator.gamma, head.estimator.class_weight, head.pca) == (
        10, "auto", "balanced", 0.95,
    )  # fmt: skip
    weights = make_head("svm-rbf", {"class_weight": '{"ant": 2, "bee": 1}'}).estimator.class_weight
    assert (
        weights == make_head("logistic", {"class_weight": '{"ant": 2, "bee": 1}'}).class_weight == {"ant": 2, "bee": 1}
    )
    assert make_head("sklearn.ensemble:BaggingClassifier", {"n_estimators": "3"}).estimator.n_estimators == 3
    assert make_head("sklearn.neural_network:MLPClassifier", {"hidden_layer_sizes": "[8, 8]"}).estimator
    assert make_head("sklearn.svm:SVC", {"gamma": "0.1"}).estimator.gamma == 0.1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": "much"}, "The 'C' parameter of SVC must be a float in the range (0.0, inf]. Got 'much' instead."),
        ({"C": "-1"}, "The 'C' parameter of SVC must be a float in the range (0.0, inf]. Got -1 instead."),
        ({"kernel": "rbg"}, "The 'kernel' parameter of SVC must be a str among"),
        ({"shrinking": "3.5"}, "The 'shrinking' parameter of SVC must be"),
        ({"C": "NaN"}, "C=nan of the head 'sklearn.svm:SVC' is not a finite number."),
        ({"scale": "maybe"}, "scale=maybe of the head 'sklearn.svm:SVC' is not true or false; its default is true."),
        ({"scale": "1"}, "scale=1 of the head 'sklearn.svm:SVC' should be of type bool."),
        ({"pca": "many"}, "pca=many of the head 'sklearn.svm:SVC' is not a number."),
        ({"pca": "[3]"}, "pca=[3] of the head 'sklearn.svm:SVC' should be of type int or float."),
    ],
    ids=str,
)
def test_what_scikit_learn_does_not_take_is_refused_before_any_work(params: dict, message: str):
    found = refusal("sklearn.svm:SVC", params)
    assert message in found
    assert "\n" not in found


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


def test_a_seed_is_given_only_where_the_code_leaves_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "from sklearn.svm import LinearSVC\ndef make_head():\n    return LinearSVC(random_state={})\n"
    monkeypatch.chdir(tmp_path)
    for given, expected in (("None", {"random_state": 7}), ("5", {})):
        Path("my.py").write_text(text.format(given))
        assert seeded("my.py", {}, 7) == expected
    assert seeded("sklearn.svm:LinearSVC", {}, 7) == seeded("random-forest", {}, 7) == {"random_state": 7}
    assert seeded("mlp", {"hidden": "3"}, 7) == {"hidden": "3", "seed": 7}
    assert seeded("random-forest", {"random_state": "1"}, 7) == {"random_state": "1"}
    assert seeded("logistic", {}, 7) == {}


def test_importing_heads_loads_neither_scikit_learn_nor_keras():
    code = (
        "import sys, heads; heads.HEADS; loaded = {'sklearn', 'keras', 'tensorflow', 'matplotlib'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_making_a_logistic_head_does_not_load_keras():
    code = (
        "import heads; heads.make_head('logistic', {'C': '0.1'}); "
        "loaded = {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules); assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
