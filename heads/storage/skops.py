"""The file `head.skops` of a head that is a scikit-learn pipeline: without pickle, and without code that could run."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from feature_cache.errors import DamagedFile, InvalidChoice, UnsafeFile, one_line
from feature_cache.files import checked
from feature_cache.files.checked import open_regular
from heads.storage.skops_import import skops_io, trusted_by_skops
from heads.storage.tree_checks import TREES, check_trees

FILE = "head.skops"
# A file may unpack to this many bytes, or to this many times its own size, whichever is more.
LARGEST_UNPACKED, LARGEST_RATIO = 2**28, 64
LARGEST_SCHEMA = 256 * 2**20  # bytes of schema.json, uncompressed
# Types in classifiers and regressors of scikit-learn, and of ours, that are harmless although skops does not know them:
# they hold numbers, and functions of arrays.
TRUSTED_TYPES = {
    *TREES,
    "heads.wrappers.calibration.TemperatureScaled",
    "heads.wrappers.prototypes.Prototypes",
    "heads.wrappers.regressors.StandardTargets",
    *(f"sklearn.feature_selection._univariate_selection.{name}" for name in ("chi2", "f_classif")),
    *(f"sklearn._loss.link.{name}" for name in ("HalfLogitLink", "Interval", "LogitLink", "MultinomialLogit")),
    *(f"sklearn._loss.loss.{name}" for name in ("ExponentialLoss", "HalfBinomialLoss", "HalfMultinomialLoss")),
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
}

# The modules of our own types in files that version 0.1 wrote, and the modules that hold these types today.
MOVED = {
    "heads.calibration": "heads.wrappers.calibration",
    "heads.prototypes": "heads.wrappers.prototypes",
    "heads.regression": "heads.wrappers.regressors",
}


def write(pipeline: Pipeline, folder: Path, own: Iterable[type] = ()) -> None:
    """Write ``head.skops`` into `folder`.

    Parameters
    ----------
    own : iterable of type
        The classes of the user's own code that the file may hold.

    Raises
    ------
    InvalidChoice
        When the head holds a type that could not be read back without trusting the file.
    """
    file = folder / FILE
    try:
        skops_io().dump(pipeline, file, compression=zipfile.ZIP_DEFLATED)
        _, untrusted = _types(file.read_bytes(), own)
    except OSError:
        raise
    except Exception as error:  # skops raises many types for objects that it cannot write
        raise InvalidChoice(f"this head cannot be kept without pickle: {type(error).__name__}: {error}.") from error
    if untrusted:
        file.unlink()
        raise InvalidChoice(
            f"this head cannot be kept: it holds {', '.join(untrusted[:3])}, and only plain parts of scikit-learn and "
            "NumPy, and classes of a file given as `head`, can be read back safely."
        )


def read(folder: Path, expected: Pipeline, what: str, own: Iterable[type] = ()) -> Pipeline:
    """The fitted pipeline that `write` wrote into `folder`.

    Parameters
    ----------
    expected : Pipeline
        A pipeline that is not fitted, whose steps have the same names and classes.
    what : str
        What the file should hold, for error messages.
    own : iterable of type
        The classes of the user's own code that the file may hold.

    Raises
    ------
    UnsafeFile
        When the file holds a type that is not trusted.
    DamagedFile
        When the file cannot be read, or holds another pipeline.
    """
    file = folder / FILE
    try:
        _require_bounded(file)
        data = _with_moved_modules(file)
        trusted, untrusted = _types(data, own)
        if untrusted:
            raise UnsafeFile(f"{file} holds types that may run code ({', '.join(untrusted[:3])}); it is not loaded.")
        pipeline = skops_io().loads(data, trusted=trusted)
        alike = _outline(pipeline) == _outline(expected) and _is_fitted(pipeline)
        check_trees(pipeline)
    except UnsafeFile:
        raise
    except Exception as error:  # a damaged archive makes skops raise many types
        raise DamagedFile(
            f"the head {file} cannot be read ({one_line(error, with_type=True)}); train it again."
        ) from error
    if not alike:
        raise DamagedFile(f"the head {file} is not {what}; train it again.")
    return pipeline


def _require_bounded(file: Path) -> None:
    """Raise ValueError for an archive that would fill the memory: the numbers of a real head compress only a little."""
    with open_regular(file) as stream, zipfile.ZipFile(stream) as archive:
        if any(entry.file_size > LARGEST_SCHEMA for entry in archive.infolist() if entry.filename == "schema.json"):
            raise ValueError("its schema is too large")
        checked.require_bounded(archive, max(LARGEST_UNPACKED, LARGEST_RATIO * os.fstat(stream.fileno()).st_size))


def _with_moved_modules(file: Path) -> bytes:
    """The bytes of `file`, in which our own types are named by the modules that hold them today."""
    data = file.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = archive.read("schema.json").decode()
        moved = {old: new for old, new in MOVED.items() if f'"{old}"' in schema}
        if not moved:
            return data
        for old, new in moved.items():
            schema = schema.replace(f'"__module__": "{old}"', f'"__module__": "{new}"')
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as rewritten:
            for entry in archive.infolist():
                rewritten.writestr(entry, schema if entry.filename == "schema.json" else archive.read(entry))
    return buffer.getvalue()


def _types(data: bytes, own: Iterable[type]) -> tuple[list[str], list[str]]:
    """The types that are trusted, besides those that skops trusts, and those in the file of these bytes that are not.

    Parameters
    ----------
    own : iterable of type
        The classes of the user's own code, which are trusted.
    """
    trusted = TRUSTED_TYPES | {_name(kind) for kind in own}
    unknown = set(skops_io().get_untrusted_types(data=data)) - trusted
    known = trusted_by_skops(unknown)
    return sorted(trusted | known), sorted(unknown - known)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _outline(pipeline: Any) -> list[tuple[str, type, type]] | None:
    """The names and classes of the steps of a pipeline, and the classes that they wrap; None for anything else."""
    if not isinstance(pipeline, Pipeline):
        return None
    inner = [getattr(step, "estimator_", getattr(step, "estimator", None)) for _, step in pipeline.steps]
    # Whether there is a copy of the estimator for each target depends on the targets, not on the head.
    inner = [one.estimator if isinstance(one, MultiOutputRegressor) else one for one in inner]
    return [(name, type(step), type(one)) for (name, step), one in zip(pipeline.steps, inner, strict=True)]


def _is_fitted(pipeline: Pipeline) -> bool:
    """Whether all steps are fitted, and the last one has the attributes that a head needs."""
    try:
        for _, step in pipeline.steps:
            check_is_fitted(step)
    except NotFittedError:
        return False
    last = pipeline[-1]
    complete = last.mean_.shape == last.spread_.shape if isinstance(last, RegressorMixin) else last.classes_.ndim == 1
    return bool(pipeline.n_features_in_ > 0 and complete)
