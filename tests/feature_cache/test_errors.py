"""The tree of errors: each is the built-in type a caller expects, and unknown names come with near ones."""

from __future__ import annotations

import pytest

from feature_cache import errors


@pytest.mark.parametrize(
    ("kind", "builtin", "exit_code"),
    [
        (errors.InvalidChoice, ValueError, 2),
        (errors.BadData, ValueError, 2),
        (errors.BadImage, errors.BadData, 2),
        (errors.MissingFeatures, LookupError, 2),
        (errors.UnsafeFile, ValueError, 2),
        (errors.MissingDependency, ImportError, 2),
        (errors.WeightsUnavailable, OSError, 2),
        (errors.DamagedFile, OSError, 1),
        (errors.StorageFailure, OSError, 1),
        (errors.WrongResult, ArithmeticError, 1),
    ],
)
def test_each_error_is_the_builtin_that_a_caller_expects(kind: type, builtin: type, exit_code: int):
    error = kind("what went wrong")
    assert isinstance(error, builtin)
    assert isinstance(error, errors.LayertapError)
    assert error.exit_code == exit_code
    assert str(error) == "what went wrong"


def test_unknown_name_with_one_near():
    error = errors.unknown("there is no net", "vg16", ["vgg16", "resnet50"], "List them with: layertap nets")
    assert str(error) == "there is no net 'vg16'; did you mean 'vgg16'? List them with: layertap nets"


def test_unknown_name_with_several_near_gives_at_most_three_the_nearest_first():
    error = errors.unknown("there is no net", "vgg1", ["vgg16", "vgg19", "vgg11", "vgg13", "resnet50"])
    guesses = str(error).removeprefix("there is no net 'vgg1'; did you mean ").removesuffix("?").split(" or ")
    assert len(guesses) == 3
    assert set(guesses) < {"'vgg16'", "'vgg19'", "'vgg11'", "'vgg13'"}


def test_unknown_name_with_none_near_lists_what_is_allowed():
    assert (
        str(errors.unknown("there is no fit", "zzz", ("crop", "pad"))) == "there is no fit 'zzz'; allowed: crop, pad."
    )


def test_long_list_of_allowed_names_is_left_out():
    allowed = [f"layer_{number}" for number in range(13)]
    assert str(errors.unknown("there is no layer", "zzz", iter(allowed))) == "there is no layer 'zzz'."


@pytest.mark.parametrize(
    ("error", "line", "with_type"),
    [
        (ValueError("two\n  lines "), "two lines", "ValueError: two lines"),
        (KeyError("a key"), "a key", "KeyError: 'a key'"),
        (MemoryError(), "MemoryError", "MemoryError"),
        (ValueError("x" * 400), "x" * errors.LONGEST + " ...", "ValueError: " + "x" * (errors.LONGEST - 12) + " ..."),
    ],
    ids=("lines", "key", "empty", "long"),
)
def test_error_as_one_line(error: Exception, line: str, with_type: str):
    assert errors.one_line(error) == line
    assert errors.one_line(error, with_type=True) == with_type


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n one.\ntwo", "one."),
        ("one:\n  two\nthree", "one: two"),
        ("  ", "ValueError"),
        ("Exception encountered when calling A.call().\n\n\x1b[1mone.\x1b[0m\n\nArguments received by A:", "one."),
    ],
)
def test_first_line_of_an_error(text: str, line: str):
    assert errors.first_line(ValueError(text)) == line
