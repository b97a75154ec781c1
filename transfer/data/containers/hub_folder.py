"""Folders of Parquet files, as the Hugging Face hub has them: which files are a data set, and of which split each is.

A ``README.md`` may begin with YAML that names the files of each split (``configs``), or the splits (``dataset_info``);
``dataset_infos.json`` names them, too. Otherwise the names of the files say their splits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, MissingDependency, one_line
from transfer.data.containers import parts
from transfer.data.folders.file_names import litter

LARGEST_README = 2**22  # bytes


def splits_of_folder(folder: Path) -> dict[Path, str | None]:
    """The Parquet files of a folder, sorted, and the split of each.

    Raises
    ------
    BadData
        When the README is damaged, or names several configurations.
    MissingDependency
        When there is a README that names splits, and PyYAML is not installed.
    """
    files = sorted(path for path in folder.rglob("*.parquet") if not any(map(litter, path.relative_to(folder).parts)))
    about = _front_matter(folder / "README.md")
    if named := _named_files(folder, files, about):
        return named
    names = {*_names_in(about.get("dataset_info")), *_names_in_json(folder / "dataset_infos.json")}
    return {path: path.stem if path.stem in names else parts.split_of_file(path) for path in files}


def _named_files(folder: Path, files: list[Path], about: dict[str, Any]) -> dict[Path, str | None]:
    """The files that the README names for the splits of its configuration."""
    configs = [one for one in _list(about.get("configs")) if isinstance(one, dict) and one.get("data_files")]
    if not configs:
        return {}
    chosen = [one for one in configs if one.get("default") is True or one.get("config_name") == "default"] or configs
    if len(chosen) > 1:
        names = ", ".join(str(one.get("config_name")) for one in chosen[:12])
        raise BadData(
            f"{folder} holds several data sets ({names}); give the folder of one, or a pattern for its files."
        )
    found: dict[Path, str | None] = {}
    for split, pattern in _patterns(chosen[0]["data_files"]):
        for path in files:
            if fnmatchcase(path.relative_to(folder).as_posix(), pattern.removeprefix("./").replace("**/", "*")):
                found.setdefault(path, split)
    return found


def _patterns(value: Any) -> Iterator[tuple[str | None, str]]:
    """The split and the pattern of each entry of ``data_files``, whatever form it has."""
    for one in _list(value):
        split, paths = (one.get("split"), one.get("path")) if isinstance(one, dict) else (None, one)
        for path in _list(paths):
            if isinstance(path, str):
                yield (split if isinstance(split, str) else None), path


def _front_matter(readme: Path) -> dict[str, Any]:
    """The YAML between two lines of three dashes at the beginning; empty where there is none."""
    try:
        with readme.open("rb") as stream:
            text = stream.read(LARGEST_README).decode("utf-8", "replace")
    except OSError:
        return {}
    start, _, rest = text.replace("\r\n", "\n").partition("---\n")
    block, end, _ = rest.partition("\n---")
    if start.strip("\ufeff \n") or not end or not ("configs:" in block or "dataset_info:" in block):
        return {}
    try:
        import yaml  # an optional package
    except ImportError as error:
        raise MissingDependency(f"reading {readme} needs PyYAML: pip install 'layertap[parquet]'") from error
    try:
        content = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadData(f"{readme} begins with damaged YAML ({one_line(error)}); mend or remove it.") from error
    return content if isinstance(content, dict) else {}


def _names_in(info: Any) -> Iterator[str]:
    """The names of splits in the ``dataset_info`` of a README."""
    for one in _list(info):
        for split in _list(one.get("splits") if isinstance(one, dict) else None):
            if isinstance(split, dict) and isinstance(split.get("name"), str):
                yield split["name"]


def _names_in_json(file: Path) -> Iterator[str]:
    """The names of splits in ``dataset_infos.json``; none where there is no such file, or another."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        yield from (name for info in content.values() for name in info["splits"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
