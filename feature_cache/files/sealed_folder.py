"""A folder with a JSON document that states the size and the digest of every other file in it.

The document names under ``files`` the size and the SHA-256 of each file, and under ``digest`` the SHA-256 of its own
content. A document that has neither key was written by an early version and is read without these checks.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from feature_cache.errors import DamagedFile
from feature_cache.files.checked import open_regular, require_regular

FILES, DIGEST = "files", "digest"


def seal(folder: Path, document: str, content: dict[str, Any]) -> None:
    """Write `content` as the JSON document of `folder`, with the digests of the files that it holds now.

    Parameters
    ----------
    document : str
        The name of the document in the folder.
    content : dict
        Anything that JSON can hold.
    """
    file = folder / document
    files = {
        other.relative_to(folder).as_posix(): {"bytes": other.stat().st_size, "sha256": file_digest(other)}
        for other in sorted(folder.rglob("*"))
        if other.is_file() and other != file
    }
    whole = json.loads(json.dumps({**content, FILES: files}))
    text = json.dumps({**whole, DIGEST: content_digest(whole)}, indent=2)
    file.write_text(text + "\n", encoding="utf-8")


def require_unaltered(folder: Path, content: dict[str, Any], remedy: str) -> None:
    """Raise an error unless the document, and every file that it names, is as it was when it was sealed.

    Parameters
    ----------
    content : dict
        What the document of `folder` holds.
    remedy : str
        What to do about an altered file, for messages.

    Raises
    ------
    ValueError
        When the document was altered, or names a file outside the folder.
    DamagedFile
        When another file is missing, was altered or cannot be read.
    """
    if FILES not in content and DIGEST not in content:
        return
    rest = {key: value for key, value in content.items() if key != DIGEST}
    if content.get(DIGEST) != content_digest(rest) or not isinstance(content.get(FILES), dict):
        raise ValueError("it was altered since it was written")
    for name, described in content[FILES].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise ValueError(f"it names the file {name!r}, which is not in the run")
        file = folder / path
        try:
            altered = not _is_as_described(file, described)
        except OSError as error:
            raise DamagedFile(f"{file} cannot be read ({error.strerror or error}); {remedy}.") from error
        if altered:
            raise DamagedFile(f"{file} cannot be read (it was altered since it was written); {remedy}.")


def content_digest(content: dict[str, Any]) -> str:
    """The hexadecimal SHA-256 of the canonical JSON of `content`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(file: Path) -> str:
    """The hexadecimal SHA-256 of a regular file.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_as_described(file: Path, described: Any) -> bool:
    """Whether a file is as it was written; a file that has grown is not read, as it may be endless."""
    if isinstance(described, str):  # early versions recorded the SHA-256 alone
        return file_digest(file) == described
    if not isinstance(described, dict) or file.stat().st_size != described.get("bytes"):
        require_regular(file)
        return False
    return file_digest(file) == described.get("sha256")
