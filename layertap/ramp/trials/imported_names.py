"""The full names of what a Python file imports."""

from __future__ import annotations

import ast

OTHERS = {"torch", "lightning", "pytorch_lightning", "fastai", "skorch", "mxnet", "chainer", "paddle", "lasagne"}
KERAS = ("keras", "tensorflow.keras", "tensorflow.python.keras", "tensorflow.contrib.keras")


class Imported:
    """The names that a module imports, at its top or inside functions.

    Attributes
    ----------
    has_another_library : bool
        Whether it imports another library for neural nets, and not Keras.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._names: dict[str, str] = {}
        self._stars: list[str] = []
        self._values: dict[str, list[ast.AST]] = {}
        packages: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._values.setdefault(node.targets[0].id, []).append(node.value)
            if isinstance(node, ast.Import):
                for alias in node.names:
                    packages.add(alias.name)
                    first = alias.name.partition(".")[0]
                    self._names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                packages.add(node.module)
                for alias in node.names:
                    if alias.name == "*":
                        self._stars.append(node.module)
                    else:
                        self._names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        first_names = {package.partition(".")[0] for package in packages}
        self.has_another_library = bool(first_names & OTHERS) and not first_names & {"keras", "tensorflow", "tf_keras"}

    def value(self, node: ast.AST) -> ast.AST:
        """The value of a name that is assigned once in the file; other expressions are returned unchanged."""
        values = self._values.get(node.id, []) if isinstance(node, ast.Name) else []
        return values[0] if len(values) == 1 else node

    def whole_name(self, node: ast.AST) -> str:
        """The full name of what an expression refers to, beginning with its package; empty where it is unknown.

        A name that is not imported may come from an ``import *`` of Keras.
        """
        if isinstance(node, ast.Attribute):
            before = self.whole_name(node.value)
            return before and f"{before}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        if node.id in self._names:
            return self._names[node.id]
        stars = [star for star in self._stars if of_keras(star)]
        return f"{stars[0]}.{node.id}" if stars else ""


def of_keras(name: str) -> str:
    """A full name with ``keras`` in place of TensorFlow's names for it; empty for names outside Keras."""
    for prefix in KERAS:
        if name == prefix or name.startswith(f"{prefix}."):
            return "keras" + name.removeprefix(prefix)
    return ""
