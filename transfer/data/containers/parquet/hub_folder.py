"""Folders of Parquet files, as the Hugging Face hub has them: which files are a data set, and of which split each is.

A ``README.md`` may begin with YAML that names the files of each split (``configs``), or the splits (``dataset_info``);
``dataset_infos.json`` names them, too. Otherwise the names of the files say their splits. Both may also name the
classes of a column of numbers.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from feature_cache.errors import BadData, MissingDependency, one_line
from transfer.data.containers import parts
from transfer.data.folders.file_names import litter
from transfer.data.remote.path import AnyPath
from transfer.data.remote.places import head

LARGEST_README, LARGEST_INFO = 2**22, 2**26  # bytes


def splits_of_folder(folder: AnyPath) -> dict[AnyPath, str | None]:
    """The Parquet files of a folder, sorted, and the split of each.

    Raises
    ------
    BadData
        When the README is damaged, or names several configurations.
    MissingDependency
        When there is a README that names splits, and PyYAML is not installed.
    """
    files = sorted(path for path in folder.rglob("*.parquet") if not any(map(litter, _inside(folder, path).split("/"))))
    about = _front_matter(folder / "README.md")
    if named := _named_files(folder, files, about):
        return named
    names = {*_names_in(about.get("dataset_info")), *_names_in_json(folder / "dataset_infos.json")}
    return {path: path.stem if path.stem in names else parts.split_of_file(path) for path in files}


def class_names_of_folder(folder: AnyPath) -> dict[str, list[str]]:
    """The names of the classes of each column that holds them as numbers, as the ``dataset_info`` says them.

    Where several data sets have a column of that name, with other names, there are none for it.

    Raises
    ------
    BadData, MissingDependency
        See `splits_of_folder`.
    """
    found: dict[str, list[str]] = {}
    for column, names in [*_classes_in(_front_matter(folder / "README.md")), *_classes_in_json(folder)]:
        found[column] = names if found.get(column, names) == names else []
    return found


def _classes_in(about: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The columns of classes in the ``dataset_info`` of a README, and the names of their classes."""
    for one in _list(about.get("dataset_info")):
        for feature in _list(one.get("features") if isinstance(one, dict) else None):
            if not isinstance(feature, dict) or not isinstance(kind := feature.get("dtype"), dict):
                continue
            label = kind.get("class_label")
            names = label.get("names") if isinstance(label, dict) else None
            if isinstance(names, dict):  # by their numbers, which are texts
                names = [names.get(str(number), names.get(number)) for number in range(len(names))]
            if isinstance(feature.get("name"), str) and isinstance(names, list) and _are_texts(names):
                yield feature["name"], names


def _classes_in_json(folder: AnyPath) -> Iterator[tuple[str, list[str]]]:
    """The columns of classes in ``dataset_infos.json``, and the names of their classes."""
    for info in _infos(folder / "dataset_infos.json"):
        features = info.get("features") if isinstance(info, dict) else None
        for column, feature in features.items() if isinstance(features, dict) else ():
            if isinstance(feature, dict) and _are_texts(feature.get("names")):
                yield column, feature["names"]


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def _named_files(folder: AnyPath, files: list[AnyPath], about: dict[str, Any]) -> dict[AnyPath, str | None]:
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
    found: dict[AnyPath, str | None] = {}
    for split, pattern in _patterns(chosen[0]["data_files"]):
        for path in files:
            if fnmatchcase(_inside(folder, path), pattern.removeprefix("./").replace("**/", "*")):
                found.setdefault(path, split)
    return found


def _inside(folder: AnyPath, path: AnyPath) -> str:
    return posixpath.relpath(path.as_posix(), folder.as_posix())


def _patterns(value: Any) -> Iterator[tuple[str | None, str]]:
    """The split and the pattern of each entry of ``data_files``, whatever form it has."""
    for one in _list(value):
        split, paths = (one.get("split"), one.get("path")) if isinstance(one, dict) else (None, one)
        for path in _list(paths):
            if isinstance(path, str):
                yield (split if isinstance(split, str) else None), path


def _front_matter(readme: AnyPath) -> dict[str, Any]:
    """The YAML between two lines of three dashes at the beginning; empty where there is none."""
    try:
        text = head(readme, LARGEST_README).decode("utf-8", "replace")
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


def _names_in_json(file: AnyPath) -> Iterator[str]:
    """The names of splits in ``dataset_infos.json``; none where there is no such file, or another."""
    try:
        yield from (name for info in _infos(file) for name in info["splits"] if isinstance(name, str))
    except (LookupError, TypeError):
        return


def _infos(file: AnyPath) -> list[Any]:
    """What ``dataset_infos.json`` says of each data set; nothing where there is no such file, or another."""
    try:
        return list(json.loads(head(file, LARGEST_INFO)).values())
    except (OSError, ValueError, AttributeError, RecursionError):
        return []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
