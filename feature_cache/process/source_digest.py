"""What identifies code of the user's: its source, and that of the local modules that it imports."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

OUR_OWN = ("feature_cache", "heads", "layertap", "transfer")  # packages whose effect has versions of its own


def source_digest(source: bytes, ours: str | None = None) -> str:
    """The digest of a module's source and of the local modules that it imports, in hexadecimal.

    Parameters
    ----------
    source : bytes
        The source of a module.
    ours : str, optional
        The version of what our own packages do for the module. Where it is given, the versions of Python and of
        installed packages count, too.

    Raises
    ------
    SyntaxError, ValueError
        When the source, or that of a local module, is not Python.

    Examples
    --------
    >>> source_digest(b"x = 1") == source_digest(b"x = 1"), source_digest(b"x = 1") == source_digest(b"x = 2")
    (True, False)
    """
    state = hashlib.sha256(b"" if ours is None else sys.version.encode())
    _add(source, state, set(), ours)
    return state.hexdigest()


def _add(source: bytes, state: Any, seen: set[str], ours: str | None) -> None:
    state.update(len(source).to_bytes(8, "little") + source)
    for name in sorted(_imported(source) - seen):
        seen.add(name)
        if name in sys.stdlib_module_names or (ours is None and name in OUR_OWN):
            continue
        if ours is not None:
            state.update(name.encode() + b"\0")
        if name in OUR_OWN:
            state.update((ours or "").encode())
            continue
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.origin:  # a module that is not found is not used
            continue
        if _is_installed(spec.origin):
            if ours is not None:
                state.update(_version(name, Path(spec.origin)))
            continue
        for file in _files(spec):
            _add(file.read_bytes(), state, seen, ours)


def _imported(source: bytes) -> set[str]:
    """Names of the packages that a source imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _files(spec: importlib.machinery.ModuleSpec) -> list[Path]:
    """The sources of a local module or package."""
    if spec.submodule_search_locations:
        return sorted(file for folder in spec.submodule_search_locations for file in Path(folder).rglob("*.py"))
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _is_installed(origin: str) -> bool:
    return any(Path(origin).is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib"))


def _version(name: str, origin: Path) -> bytes:
    """The version that a package declares. (Finding its distribution would mean listing all that are installed.)"""
    declared = str(getattr(sys.modules.get(name), "__version__", "")).encode()
    files = [origin, origin.with_name("_version.py"), origin.with_name("version.py")]
    if origin.name != "__init__.py":
        files = files[:1]
    return declared + b"".join(file.read_bytes() for file in files if file.is_file())
