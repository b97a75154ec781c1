"""Importing Keras with its OpenVINO backend in a quarter of the time: without what no conversion needs.

This is for a process that converts a net, or looks at its layers, and ends. Keras itself is not imported here.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.nets.catalogue import Net

# What Keras and OpenVINO import where it is installed, and do without where it is not.
NOT_NEEDED = frozenset(
    {
        "IPython",
        "jax",
        "matplotlib",
        "openvino.tools",
        "pandas",
        "pydot",
        "requests",
        "sklearn",
        "tensorflow",
        "torch",
    }
)
# What Keras imports at the top of its modules, and uses in operations that few nets have.
LATER = frozenset({"scipy.signal"})


class _Finder(importlib.abc.MetaPathFinder):
    """Finds no module of `NOT_NEEDED`, and those of `LATER` such that they are loaded when they are first used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in NOT_NEEDED:
            # Not `sys.modules[fullname] = None`: Keras takes any entry for a sign that TensorFlow is loaded.
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        if fullname not in LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def prepare_to_look(net: Net) -> None:
    """The same for a process that looks at the layers of a net, where any backend builds the net and none is chosen.

    Files may hold layers that OpenVINO does not compute.
    """
    if net.info is not None and "KERAS_BACKEND" not in os.environ and find_spec("openvino") is not None:
        prepare()


def prepare() -> None:
    """Have Keras use OpenVINO, and be imported light, in this process from now on."""
    os.environ["KERAS_BACKEND"] = "openvino"
    sys.meta_path.insert(0, _Finder())
