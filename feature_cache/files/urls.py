"""URLs in the place of paths: what is one, and how it is shown and stored without what is secret in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from feature_cache.errors import InvalidChoice

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # of one letter it would be a drive of Windows
_URL = re.compile(rf"{_SCHEME.pattern}[^\s'\"<>]+", re.IGNORECASE)
_WEB = ("http", "https")
_QUERY = re.compile(r"[?][\w.~%-]+=.*", re.DOTALL)  # elsewhere ? may be part of a name, or of a pattern


def is_url(name: str) -> bool:
    """Whether a name is a URL, and not the path of something that is there.

    Examples
    --------
    >>> is_url("s3://bucket/photos"), is_url("data/s3://bucket"), is_url("C://photos")
    (True, False, False)
    """
    return bool(_SCHEME.match(name)) and not os.path.lexists(name)


def scheme(url: str) -> str:
    """The scheme of a URL, in small letters.

    Examples
    --------
    >>> scheme("S3://bucket")
    's3'
    """
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def local_path(url: str) -> Path:
    """The path on this machine that a URL beginning with ``file://`` names.

    Raises
    ------
    InvalidChoice
        When it names none, or one on another machine.

    Examples
    --------
    >>> local_path("file:///tmp/x").as_posix(), local_path("file://localhost/tmp/x").as_posix()
    ('/tmp/x', '/tmp/x')
    """
    host, slash, path = url.partition("://")[2].partition("/")
    if host not in ("", "localhost") or not path:
        raise InvalidChoice(f"{url!r} names no path on this machine; give a path, or file:///FOLDER.")
    return Path(slash + path)


def shown(name: str) -> str:
    """A URL without user, password and query, which may be secret; anything else as it is.

    Examples
    --------
    >>> shown("https://me:secret@host/a.zip?signature=1"), shown("a?b=c.png")
    ('https://host/a.zip', 'a?b=c.png')
    """
    match = _SCHEME.match(name)
    if not match:
        return name
    rest = re.sub(r"^[^/?#]*@", "", name[match.end() :])
    rest = re.split("[?#]", rest, maxsplit=1)[0] if scheme(name) in _WEB else _QUERY.sub("", rest)
    return match[0] + rest


def redacted(text: str) -> str:
    """A text whose URLs are without what may be secret.

    Examples
    --------
    >>> redacted("403, url='https://host/a.zip?signature=1'")
    "403, url='https://host/a.zip'"
    """
    return _URL.sub(lambda match: shown(match[0]), text)


def require_path(name: str, what: str) -> None:
    """Raise InvalidChoice where the name of something that is written is a URL.

    Parameters
    ----------
    what : str
        What is written, as the beginning of a sentence.

    Examples
    --------
    >>> require_path("s3://bucket/run", "a run")
    Traceback (most recent call last):
    ...
    feature_cache.errors.InvalidChoice: a run is written to disk, and not to s3://bucket/run; name a path.
    """
    if is_url(name):
        raise InvalidChoice(f"{what} is written to disk, and not to {shown(name)}; name a path.")
