"""What the names in a Python file stand for, by its imports."""

from __future__ import annotations

import ast

OTHERS = {"torch", "lightning", "pytorch_lightning", "fastai", "skorch", "mxnet", "chainer", "paddle", "lasagne"}
KERAS = ("keras", "tensorflow.keras", "tensorflow.python.keras", "tensorflow.contrib.keras")


class Imported:
    """The names that a module imports anywhere, wherever they are used.

    Attributes
    ----------
    has_another_library : bool
        Whether it imports another library for nets, and not Keras.
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
        """What a name was given as its value where the file does so once; other expressions as they are."""
        values = self._values.get(node.id, []) if isinstance(node, ast.Name) else []
        return values[0] if len(values) == 1 else node

    def whole_name(self, node: ast.AST) -> str:
        """The name of what an expression stands for, from its package on; empty where that is not known.

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
    """A whole name as one of Keras, which TensorFlow holds too; empty where it is none."""
    for prefix in KERAS:
        if name == prefix or name.startswith(f"{prefix}."):
            return "keras" + name.removeprefix(prefix)
    return ""
