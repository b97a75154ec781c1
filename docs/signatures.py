"""An extension of griffe, which reads the docstrings for the Python reference: parameters have their own defaults.

Where a docstring describes several parameters together (``class_column, id_column : str``), griffe gives all of them
the default of the first, and its type where the docstring has none. Here each gets what the signature says.
"""

from __future__ import annotations

from typing import Any

import griffe


class OwnDefaults(griffe.Extension):
    """Takes defaults, and types that a docstring leaves out, from the parameter itself."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Correct the parameters that the docstring of a function describes."""
        _correct(func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Correct the parameters of ``__init__`` that the docstring of a class describes."""
        _correct(cls)


def _correct(found: griffe.Function | griffe.Class) -> None:
    if found.docstring is None:
        return
    signature = {parameter.name: parameter for parameter in found.parameters}
    for section in found.docstring.parsed:
        if section.kind is not griffe.DocstringSectionKind.parameters:
            continue
        for described in section.value:
            own = signature.get(described.name)
            if own is None:
                continue
            described.value = own.default
            if any(described.annotation is other.annotation for other in signature.values()):  # not from the docstring
                described.annotation = own.annotation
