"""scikit-learn is imported without what it imports and does not use, and works as always."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run(code: str) -> str:
    """What a piece of Python prints, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neither_scipy_stats_nor_pandas_is_loaded_until_it_is_used() -> None:
    code = """
import sys
from feature_cache.process.sklearn_import import light_imports
with light_imports():
    import sklearn.linear_model, sklearn.metrics
    print("scipy.stats" in sys.modules, "pandas" in sys.modules)
import numpy as np
from sklearn._loss.link import MultinomialLogit
print(MultinomialLogit().link(np.array([[0.25, 0.5, 0.25]])).round(4).tolist())  # by the geometric mean of scipy.stats
print("scipy.stats" in sys.modules)
"""
    assert run(code).splitlines() == ["False False", "[[-0.231, 0.4621, -0.231]]", "True"]


def test_neither_asyncio_nor_tools_of_numpy_are_loaded_until_they_are_used(tmp_path: Path) -> None:
    code = f"""
import sys
from feature_cache.process.sklearn_import import light_imports
with light_imports():
    import sklearn.linear_model, joblib
    print([name for name in ("asyncio", "ssl", "numpy.f2py", "numpy.testing") if name in sys.modules])
    import numpy
    print(hasattr(numpy, "f2py"), numpy.testing.assert_array_equal([1], [1]), "numpy.testing" in sys.modules)
@joblib.Memory({str(tmp_path)!r}, verbose=0).cache
async def twice(number):
    return 2 * number
import asyncio
print(asyncio.run(twice(4)), asyncio.run(twice(4)))
"""
    assert run(code).splitlines() == ["[]", "True None True", "8 8"]


def test_others_import_both_as_always() -> None:
    code = """
from feature_cache.process.sklearn_import import light_imports
with light_imports():
    import sklearn.base
    import pandas
    from scipy import stats
    import scipy.stats.mstats
    print(pandas.Series([1, 2]).sum(), stats.rankdata([5, 3]).tolist(), stats.chi2.mean(3))
"""
    assert run(code).split("\n")[0] == "3 [2.0, 1.0] 3.0"


def test_a_module_that_needs_them_at_once_gets_them(tmp_path: Path) -> None:
    package = tmp_path / "sklearn"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import scipy.stats, pandas\nclass Own(scipy.stats.rv_continuous): pass\nprint(Own.__mro__[1].__name__)\n"
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from feature_cache.process.sklearn_import import light_imports
with light_imports():
    import sklearn
"""
    assert run(code) == "rv_continuous\n"
