"""The rooms of the house: who may import whom, what stays light, and what is never called."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import layertap
from layertap.ramp.kit import WORKFLOWS

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("feature_cache", "transfer", "heads", "layertap")
OUR_OWN = {*ROOMS, "cli"}
MOST_MODULES = 15  # in a folder, with its __init__.py
PUBLIC = ("layertap", "layertap.ramp")  # what code that is written for users may import
HEAVY = ("keras", "tensorflow", "jax", "torch")
MAY_IMPORT = {
    "feature_cache": {"feature_cache"},
    "transfer": {"transfer", "feature_cache"},
    "heads": {"heads", "feature_cache"},
    "layertap": {"layertap", "heads", "transfer", "feature_cache"},
}
# Keras is at the top of these alone, and of what only they import.
CACHE_PACKAGES = ("numpy", "h5py", "xxhash", "zstandard", "pyarrow", "fsspec", "feature_cache")
KERAS_MODULES = {
    "heads/neural/batches.py",
    "heads/neural/mlp.py",
    "transfer/nets/backbone.py",
    "transfer/engines/keras_engine.py",
    "transfer/finetune/augment_layer.py",
    "transfer/finetune/network.py",
    "transfer/nets/efficientnet_lite/net.py",
    "transfer/nets/glyphnet/net.py",
    "transfer/nets/glyphnet/train.py",
    "transfer/nets/keras_settings.py",
    "transfer/nets/loading.py",
    "transfer/nets/preprocessing.py",
    "transfer/nets/inner_layers.py",
    "transfer/nets/files/saved_weights.py",
    "transfer/nets/random_weights.py",
    "transfer/export/model.py",
}


def sources(room: str) -> list[Path]:
    found = [file for file in (ROOT / room).rglob("*.py") if "node_modules" not in file.parts]
    assert found
    return found


def imports(file: Path, *, top_only: bool = False) -> Iterator[str]:
    """The modules that `file` imports, anywhere or at its top; what is only there for type checkers counts too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = _run_at_import(tree) if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            yield node.module


def _name(file: Path) -> str:
    """The dotted name of a module or package."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(file): file for room in ROOMS for file in sources(room)}


def _imported_modules(file: Path) -> set[str]:
    """Our own modules that a module imports, anywhere but for type checkers."""
    found = set()
    for node in _used_at_run_time(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found & MODULES.keys()


def _used_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _used_at_run_time(child)


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside functions and inside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run_at_import(child)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    for file in sources(room):
        for module in imports(file):
            package = module.split(".")[0]
            assert package not in OUR_OWN or package in MAY_IMPORT[room], f"{file.relative_to(ROOT)} imports {module}"


def test_the_cache_needs_only_numpy_h5py_and_what_compresses_checks_and_moves_bytes() -> None:
    for file in sources("feature_cache"):
        for module in imports(file):
            package = module.split(".")[0]
            allowed = package in sys.stdlib_module_names or package in CACHE_PACKAGES
            assert allowed, f"{file.relative_to(ROOT)} imports {module}"


def test_editors_see_the_names_that_layertap_has() -> None:
    stub = ast.parse((ROOT / "layertap" / "__init__.pyi").read_text(encoding="utf-8"))
    seen = {alias.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == layertap._HOMES


def test_there_is_no_circle_of_imports() -> None:
    """Imports inside functions count, too; what is only for type checkers does not."""
    graph = {module: _imported_modules(file) - {module} for module, file in MODULES.items()}
    while leaves := [module for module, imported in graph.items() if not imported & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph, f"among these, some import each other in a circle: {sorted(graph)}"


def test_imports_inside_functions_keep_back_something_slow_or_optional() -> None:
    """A module of ours is imported inside a function only where that loads a package which is not loaded yet."""
    for module, file in MODULES.items():
        loaded = _packages(module)
        for name in _imports_in_functions(ast.parse(file.read_text(encoding="utf-8"))):
            package = name.split(".")[0]
            if name in MODULES:
                assert _packages(name) - loaded, f"{module} imports {name} inside a function, which loads nothing more"
            else:
                optional = name == "resource"  # which Windows does not have
                assert optional or package not in sys.stdlib_module_names, f"{module}: {name} inside a function"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_inside_functions_say_why(room: str) -> None:
    silent = []
    for file in sources(room):
        lines, reason_above = file.read_text(encoding="utf-8").splitlines(), {0}
        for number, line in enumerate(lines, 1):  # a reason holds for the imports that follow it at once
            if "#" in line or re.match(r" +(from|import) ", line) and number - 1 in reason_above:
                reason_above.add(number)
        for function in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = (node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))
                silent += [f"{file.name}:{node.lineno}" for node in inside if node.lineno not in reason_above]
    assert not silent


def _imports_in_functions(node: ast.AST, inside: bool = False) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if inside and isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from _names(child)
        yield from _imports_in_functions(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """What an import statement names: our modules in full, of other packages the modules."""
    for alias in node.names:
        name = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
        yield name if name in MODULES or isinstance(node, ast.Import) else str(node.module)


@cache
def _packages(module: str) -> frozenset[str]:
    """The packages of others that importing a module of ours loads."""
    reached, packages, open_ = set(), set(), [module]
    while open_:
        name = open_.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in MODULES:
            packages.add(name.split(".")[0])
            continue
        open_ += [name.rpartition(".")[0]] if "." in name else []
        open_ += _named_at_import(name)
    return frozenset(packages - sys.stdlib_module_names - {"__future__"})


@cache
def _named_at_import(module: str) -> list[str]:
    """What the import statements name that run when a module of ours is imported."""
    nodes = _run_at_import(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return [name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for name in _names(node)]


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    for module in imports(ROOT / "cli.py", top_only=True):
        package = module.split(".")[0]
        allowed = package in sys.stdlib_module_names or package == "layertap"
        assert allowed or module.startswith("feature_cache."), module  # what that loads is measured below


def test_generated_kits_and_submissions_import_the_public_face_alone() -> None:
    sources = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "layertap/ramp/templates").glob("*.txt")}
    sources["kit.py"] = "\n".join(line for _, line in WORKFLOWS.values())  # a kit's problem.py gets these
    for name, text in sources.items():
        for module in re.findall(r"^\s*(?:from|import)\s+([\w.]+)", text, re.MULTILINE):
            assert module.split(".")[0] not in OUR_OWN or module in PUBLIC, f"{name} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_keras_is_at_the_top_of_few_modules(room: str) -> None:
    for file in sources(room):
        name = str(file.relative_to(ROOT))
        tops = {module.split(".")[0] for module in imports(file, top_only=True)}
        assert not tops & {"tensorflow", "jax", "torch", "openvino"}, f"{name} imports a backend at its top"
        if name not in KERAS_MODULES:
            assert "keras" not in tops, f"{name} imports keras at its top"


def test_scikit_learn_is_at_the_top_of_few_modules_of_transfer() -> None:
    for file in sources("transfer"):
        tops = {module.split(".")[0] for module in imports(file, top_only=True)}
        assert file.name in ("extractor.py", "train.py") or "sklearn" not in tops, f"{file} imports sklearn at its top"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_that_runs_code_from_files_is_ever_called(room: str) -> None:
    for file in sources(room):
        where = file.relative_to(ROOT)
        for module in imports(file):
            assert module.split(".")[0] not in ("pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"), where
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword):
                value = node.value.value if isinstance(node.value, ast.Constant) else None
                assert not (node.arg == "allow_pickle" and value is not False), f"{where}:{node.value.lineno}"
                assert not (node.arg == "safe_mode" and value is not True), f"{where}:{node.value.lineno}"
                assert not (node.arg == "shell" and value is not False), f"{where}:{node.value.lineno}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "os.system", "compile"), f"{where}:{node.lineno}"
                assert "enable_unsafe_deserialization" not in called, f"{where}:{node.lineno}"


def test_every_module_says_what_it_is_for() -> None:
    for file in [ROOT / "cli.py", *(file for room in ROOMS for file in sources(room))]:
        text = file.read_text(encoding="utf-8")
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{file.relative_to(ROOT)} has no docstring"


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_holds_few_modules(room: str) -> None:
    folders = Counter(file.parent for file in sources(room))
    for folder, count in folders.items():
        assert count <= MOST_MODULES, f"{folder.relative_to(ROOT)} holds {count} modules; divide it into folders"


@pytest.fixture(scope="module")
def loaded_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Which of the heavy packages a piece of Python loads, in a process of its own."""
    folder = tmp_path_factory.mktemp("work")

    def loaded(code: str, *arguments: str) -> list[str]:
        report = f"import sys\n{code}\nprint('LOADED', [n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", report, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("LOADED ")
        found: list[str] = json.loads(last.removeprefix("LOADED ").replace("'", '"'))
        return found

    return loaded


COMMAND = """
import cli
try:
    status = cli.main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
assert status == 0, status
"""


def test_importing_the_packages_loads_no_backend(loaded_by: Callable[..., list[str]]) -> None:
    for package in ("heads", "feature_cache", "transfer", "cli"):
        assert loaded_by(f"import {package}") == []
    assert loaded_by("import transfer\nassert 'sklearn' not in sys.modules") == []
    assert loaded_by("import layertap\nassert not {'numpy', 'sklearn', 'h5py'} & set(sys.modules)") == []


@pytest.mark.parametrize(
    "arguments", [("--help",), ("extract", "--help"), ("nets",), ("cache", "list"), ("explore", "digits")], ids=" ".join
)
def test_commands_that_compute_nothing_load_no_backend(
    loaded_by: Callable[..., list[str]], arguments: tuple[str, ...]
) -> None:
    assert loaded_by(COMMAND, *arguments) == []


@pytest.mark.slow
def test_heads_of_scikit_learn_train_and_predict_on_cached_features_without_a_backend(
    loaded_by: Callable[..., list[str]],
) -> None:
    fill_the_cache = """
from pathlib import Path
import numpy as np
from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.nets.catalogue import Net
dataset, cache = datasets.load("digits"), FeatureCache(Path("features"))
digests, _ = datasets.digests(dataset, cache.memo)
space = cache[Net("glyphnet").spec("block4_pool")]
with space.writer({}) as writer:
    digests, first = np.unique(digests, axis=0, return_index=True)
    writer.append(digests, np.eye(10)[dataset.labels[first].astype(int)] + np.arange(len(first))[:, None] / 1e4)
"""
    commands = """
import cli
train = ["train-head", "digits", "--layer", "block4_pool", "--head", "logistic", "--out", "run", "--quiet"]
assert cli.main(["extract", "digits", "--layer", "block4_pool"]) == 0
assert cli.main(train) == 0
assert cli.main(["evaluate", "run", "digits"]) == 0
assert cli.main(["predict", "run", "digits", "--out", "predictions.csv"]) == 0
"""
    assert loaded_by(fill_the_cache + commands) == []
