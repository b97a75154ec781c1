"""The folder of a run: its `config.json`, and the digests that tell whether all of it is as it was written.

`config.json` names under ``files`` the size and the SHA-256 of every file that the run predicts by, and under
``digest`` the SHA-256 of its own content. Runs of earlier versions have neither, and are read without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from feature_cache.errors import DamagedFile, one_line
from feature_cache.files.checked import LARGEST_TEXT, open_regular, read_json, require_regular

CONFIG_FILE = "config.json"
FORMAT = 1
FILES, DIGEST = "files", "digest"
MOST_SKIPPED = 10_000  # names of images that were left out; `skipped.csv` has all


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json`, with the digests of all files that are in `folder` by now.

    Parameters
    ----------
    config : dict
        Anything that JSON can hold. Of more than `MOST_SKIPPED` names under ``skipped`` the first are kept.
    """
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _file_digest(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / CONFIG_FILE
    }
    content = json.loads(json.dumps({"format": FORMAT, **config, FILES: files}))
    if "skipped" in content:
        content["skipped"] = content["skipped"][:MOST_SKIPPED]
    text = json.dumps({**content, DIGEST: _digest(content)}, indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` holds, once every file of the run is seen to be as it was written.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        When there is none.
    DamagedFile
        When it cannot be read, is of a newer format, or a file of the run was altered.
    """
    file = folder / CONFIG_FILE
    try:
        config = read_json(file, LARGEST_TEXT)
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
        version = config["format"]
        if type(version) is not int or version < 1:
            raise ValueError(f"its format is {version!r}")
    except (FileNotFoundError, NotADirectoryError):
        raise
    except KeyError as error:
        raise unreadable(file, f"it has no {error}") from error
    except (OSError, ValueError, MemoryError) as error:
        raise unreadable(file, getattr(error, "strerror", None) or one_line(error)) from error
    if version > FORMAT:
        raise DamagedFile(f"{folder} has format {version} and this Layertap reads up to {FORMAT}; upgrade layertap.")
    if FILES in config or DIGEST in config:
        _require_unaltered(folder, config)
    return config


def is_run(folder: Path) -> bool:
    """Whether `folder` holds what looks like a run, which may be damaged otherwise."""
    with contextlib.suppress(OSError, ValueError, MemoryError):
        config = read_json(folder / CONFIG_FILE)
        return isinstance(config, dict) and {"format", "spec", "head"} <= config.keys()
    return False


def unreadable(file: Path, reason: str) -> DamagedFile:
    """The error for a `config.json` that is no such file."""
    return DamagedFile(f"{file} cannot be read ({reason}); train the head again.")


def _require_unaltered(folder: Path, config: dict[str, Any]) -> None:
    rest = {key: value for key, value in config.items() if key != DIGEST}
    if config.get(DIGEST) != _digest(rest) or not isinstance(config.get(FILES), dict):
        raise unreadable(folder / CONFIG_FILE, "it was altered since it was written")
    for name, described in config[FILES].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise unreadable(folder / CONFIG_FILE, f"it names the file {name!r}, which is not in the run")
        file = folder / path
        try:
            altered = not _is_as_described(file, described)
        except OSError as error:
            raise DamagedFile(f"{file} cannot be read ({error.strerror or error}); train again.") from error
        if altered:
            raise DamagedFile(f"{file} cannot be read (it was altered since it was written); train again.")


def _is_as_described(file: Path, described: Any) -> bool:
    """Whether a file is as it was written; one that has grown is not read, as it may be endless."""
    if isinstance(described, str):  # as runs were written for a while: the SHA-256 alone
        return _file_digest(file) == described
    if not isinstance(described, dict) or file.stat().st_size != described.get("bytes"):
        require_regular(file)
        return False
    return _file_digest(file) == described.get("sha256")


def _digest(content: dict[str, Any]) -> str:
    """Hexadecimal SHA-256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _file_digest(file: Path) -> str:
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
