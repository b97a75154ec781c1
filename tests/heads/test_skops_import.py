"""skops is imported lightly in commands, and trusts the same types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import json, os, sys
from feature_cache.process.sklearn_import import light_imports
with light_imports():
    import numpy as np
    import sklearn.linear_model, sklearn.pipeline, sklearn.preprocessing
    from scipy import special
    from heads.storage import skops as storage
    from heads.storage.skops_import import LIST_NAMES, LISTS, skops_io, _whole_lists
    logistic = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), sklearn.linear_model.LogisticRegression()
    )
    refused = [storage._types(skops_io().dumps(logistic), [])[1]]
    loaded = "sklearn.ensemble" in sys.modules

    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neighbors._base import NeighborsBase
    from sklearn.preprocessing import FunctionTransformer
    rows, labels = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    objects = [
        logistic,
        HistGradientBoostingClassifier(max_iter=2).fit(rows, labels),
        FunctionTransformer(np.log1p),
        FunctionTransformer(special.expit),
        FunctionTransformer(os.system),
        FunctionTransformer(sklearn.utils.all_estimators),
        {"kind": NeighborsBase, "other": os._wrap_close, "estimator": sklearn.linear_model.Ridge()},
    ]
    files = [skops_io().dumps(each) for each in objects]
    refused += [storage._types(file, [])[1] for file in files]

    whole = _whole_lists()
    for name in LIST_NAMES:
        assert len(getattr(whole, name)) > len(getattr(sys.modules[LISTS], name)), name
        getattr(sys.modules[LISTS], name)[:] = getattr(whole, name)
    expected = [sorted(set(skops_io().get_untrusted_types(data=file)) - storage.TRUSTED_TYPES) for file in files]
print(json.dumps([loaded, refused, [[], *expected]]))
"""


@pytest.mark.slow
def test_the_same_types_are_trusted_and_ensembles_are_not_loaded_for_that() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded, refused, expected = json.loads(done.stdout)
    assert not loaded
    assert refused == expected
    assert [bool(types) for types in refused] == [False] * 5 + [True] * 3
    assert "posix.system" in refused[5]
