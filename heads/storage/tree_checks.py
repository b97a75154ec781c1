"""Checks of the decision trees in a head's file: every node refers to nodes of its own tree.

scikit-learn follows the numbers in a tree's nodes without checks, so a forged file could read memory outside the tree.
(For that reason skops does not trust these types, see skops-dev/skops#535.) The nodes are checked once, when a head is
read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

TREES = ("sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")


def check_trees(head: Any) -> None:
    """Raise ValueError when a tree in `head` refers to nodes that it does not have, or to features it is not given."""
    for part in _parts(head):
        state = getattr(part, "__dict__", {})
        if "tree_" in state:
            # Only regressors may have several outputs.
            _check_tree(part.tree_, part.n_features_in_, part.n_outputs_ if isinstance(part, RegressorMixin) else 1)
        stages = state.get("estimators_")
        if isinstance(stages, np.ndarray):  # gradient boosting passes its own features to all trees
            for stage in stages.ravel():
                _require(stage.tree_.n_features <= part.n_features_in_)
        for stage in state.get("_predictors", ()):
            for predictor in stage:
                _check_predictor(predictor, part.n_features_in_)


def _check_tree(tree: Any, n_features: int, n_outputs: int) -> None:
    """Check a tree of `sklearn.tree`."""
    # The memory comes first: the arrays of nodes have `capacity` rows, of which `node_count` are read.
    _require(0 < tree.node_count <= tree.capacity and tree.n_features == n_features)
    _require(tree.value.shape[:2] == (tree.node_count, n_outputs))
    left, right = tree.children_left, tree.children_right
    inner = left != -1
    _require((right[~inner] == -1).all())
    _check_nodes(left, right, tree.feature, inner, n_features)


def _check_predictor(predictor: Any, n_features: int) -> None:
    """Check a tree of histogram-based gradient boosting."""
    nodes = predictor.nodes
    _require(nodes.ndim == 1 and len(nodes) > 0 and not nodes["is_categorical"].any())
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    _check_nodes(left, right, nodes["feature_idx"], nodes["is_leaf"] == 0, n_features)


def _check_nodes(left: np.ndarray, right: np.ndarray, feature: np.ndarray, inner: np.ndarray, n_features: int) -> None:
    """Check the children and the features of the `inner` nodes."""
    number = np.flatnonzero(inner)
    for child in (left[inner], right[inner]):
        # Children come after their node, so that every path through the tree ends.
        _require((child > number).all() and (child < len(left)).all())
    _require((feature[inner] >= 0).all() and (feature[inner] < n_features).all())


def _require(right: bool | np.bool_) -> None:
    if not right:
        raise ValueError("it holds a tree whose nodes lead outside it")


def _parts(whole: Any) -> Iterator[Any]:
    """Every object inside `whole`, at any depth, once each."""
    waiting, seen = [whole], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple, set)):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            waiting.extend(part.ravel().tolist() if part.dtype == object else ())
        elif isinstance(inside := getattr(part, "__dict__", None), dict):
            waiting.extend(inside.values())
