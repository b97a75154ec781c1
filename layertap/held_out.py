"""`HeldOut`: what a run predicted of the images that were held out of its splits, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import DamagedFile, one_line
from feature_cache.files.checked import read_arrays
from feature_cache.files.digest_list import digest_keys
from feature_cache.keys import DIGEST_BYTES
from heads.evaluation.cross_validation import Evaluation
from heads.evaluation.tasks import task_of

HELD_OUT_FILE = "held-out.npz"
NEVER = -1  # the split of an image that was held out by none


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The predictions for all images of a run, each by heads that were not trained on it.

    Attributes
    ----------
    ids : tuple of str
        All images of the run, those of the test included.
    digests : ndarray of shape (n, 16), uint8
        The digests of their content.
    targets : ndarray of shape (n,) or (n, k)
        The truth, as the run was told it: classes as str, numbers as float64, labels as bool.
    names : tuple of str
        The classes, numbers or labels: the columns of `outputs`.
    outputs : ndarray of shape (n, k), float32
        Probabilities or numbers, the mean over all splits that held the image out; NaN where no split did.
    splits : ndarray of shape (n,), int32
        The first split that held the image out; `NEVER` where none did.

    Examples
    --------
    >>> evaluation = Evaluation(rows=[np.array([0])], outputs=[np.array([[0.8, 0.2]])])
    >>> held_out = HeldOut.of(("a", "b"), np.zeros((2, 16), np.uint8), np.array(["x", "y"]), ("x", "y"), evaluation)
    >>> held_out.predicted.tolist(), held_out.outputs[0].tolist()
    ([True, False], [0.800000011920929, 0.20000000298023224])
    """

    ids: tuple[str, ...]
    digests: np.ndarray
    targets: np.ndarray
    names: tuple[str, ...]
    outputs: np.ndarray
    splits: np.ndarray

    @classmethod
    def of(
        cls, ids: Sequence[str], digests: np.ndarray, targets: np.ndarray, names: Sequence[str], evaluation: Evaluation
    ) -> HeldOut:
        """The predictions that an evaluation made of the rows that its splits held out."""
        total = np.zeros((len(ids), len(names)))
        times, splits = np.zeros(len(ids)), np.full(len(ids), NEVER, np.int32)
        for number, (rows, outputs) in enumerate(zip(evaluation.rows, evaluation.outputs, strict=True)):
            total[rows] += outputs.reshape(len(rows), -1)
            times[rows] += 1
            splits[rows] = np.where(splits[rows] == NEVER, number, splits[rows])
        with np.errstate(invalid="ignore"):  # 0 / 0 where no split held an image out
            mean = (total / times[:, None]).astype(np.float32)
        return cls(tuple(ids), digests, targets, tuple(names), mean, splits)

    @property
    def predicted(self) -> np.ndarray:
        """Which images some split held out: shape (n,), bool."""
        return self.splits != NEVER

    def write(self, folder: Path) -> None:
        """Write the file of these predictions into the folder of a run."""
        arrays: dict[str, Any] = {"digests": self.digests, "outputs": self.outputs, "splits": self.splits}
        texts: dict[str, Any] = {"ids": _packed(self.ids), "names": _packed(self.names)}
        targets = self.targets
        if task_of(targets).name == "classes":  # as positions: texts of one length take much room
            targets = np.searchsorted(np.array(self.names), targets).astype(np.int32)
        with (folder / HELD_OUT_FILE).open("wb") as stream:
            np.savez(stream, **arrays, **texts, targets=targets)


def held_out_first(
    held_out: HeldOut | None, names: Sequence[str], digests: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a run predicts of images; of an image that it held out, what heads that had not seen it predicted.

    Parameters
    ----------
    held_out : HeldOut or None
        Of the run.
    names : sequence of str
        The columns of `outputs`.
    digests : ndarray of shape (n, 16), uint8
        Of the content of the images.
    outputs : ndarray of shape (n, k)
        What the fitted head of the run predicts.

    Returns
    -------
    outputs : ndarray of shape (n, k), float64
    splits : ndarray of shape (n,), int64
        The split that held each image out; `NEVER` where none did.
    """
    outputs, splits = outputs.reshape(len(digests), -1).astype(np.float64), np.full(len(digests), NEVER)
    if held_out is not None and held_out.names == tuple(names):
        rows = dict(zip(digest_keys(held_out.digests), range(len(held_out.ids)), strict=True))
        for at, key in enumerate(digest_keys(digests)):
            row = rows.get(key)
            if row is not None and held_out.predicted[row]:
                outputs[at], splits[at] = held_out.outputs[row], held_out.splits[row]
    return outputs, splits


def read_held_out(folder: Path) -> HeldOut | None:
    """What `HeldOut.write` wrote; None where a run has no such file.

    Raises
    ------
    DamagedFile
        When the file cannot be read.
    """
    file = folder / HELD_OUT_FILE
    try:
        return _checked(read_arrays(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DamagedFile(f"{file} cannot be read ({reason}); train again.") from error


def _checked(arrays: dict[str, np.ndarray]) -> HeldOut:
    """The predictions, whose arrays go together."""
    ids, names = _unpacked(arrays["ids"]), _unpacked(arrays["names"])
    digests, targets, outputs, splits = (arrays[name] for name in ("digests", "targets", "outputs", "splits"))
    shapes = (digests.shape, outputs.shape, splits.shape, targets.shape[:1])
    if shapes != ((len(ids), DIGEST_BYTES), (len(ids), len(names)), (len(ids),), (len(ids),)):
        raise ValueError("its arrays do not go together")
    if (digests.dtype, outputs.dtype, splits.dtype) != (np.uint8, np.float32, np.int32):
        raise ValueError("its arrays are of other types")
    if targets.dtype == np.int32:
        if targets.shape != (len(ids),) or not ((targets >= 0) & (targets < len(names))).all():
            raise ValueError("its targets are no classes")
        targets = np.array(names)[targets]
    elif targets.dtype.kind not in "fb":
        raise ValueError("its targets are of another type")
    return HeldOut(ids, digests, targets, names, outputs, splits)


def _packed(texts: Sequence[str]) -> np.ndarray:
    """Texts of any length as bytes."""
    return np.frombuffer(json.dumps(list(texts)).encode(), np.uint8)


def _unpacked(packed: np.ndarray) -> tuple[str, ...]:
    """The texts that `_packed` packed."""
    texts = json.loads(packed.astype(np.uint8).tobytes())
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("its names are no texts")
    return tuple(texts)
