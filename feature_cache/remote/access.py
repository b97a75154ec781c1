"""Asking a server through fsspec: file systems by their URLs, repeated tries, and errors in one line."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from feature_cache.errors import BadData, InvalidChoice, LayertapError, MissingDependency, Unreachable, one_line
from feature_cache.files.urls import redacted, scheme, shown

Result = TypeVar("Result")

CONNECTIONS = 32  # that are open at a time
TRIES, FIRST_WAIT = 8, 0.1  # seconds, which double each time, give or take a half
_INSTALL = "pip install 'layertap[cloud]'"
_IN_EXTRA = ("s3", "s3a", "http", "https")
# botocore repeats requests by itself, and both together would take minutes where there is no server.
_OF_BOTOCORE = {"max_pool_connections": CONNECTIONS, "retries": {"total_max_attempts": 1}}
# s3fs would keep the listing of each folder, a kilobyte for each file.
_OF_S3: dict[str, Any] = {"use_listings_cache": False, "config_kwargs": _OF_BOTOCORE}
_OPTIONS = {"s3": _OF_S3, "s3a": _OF_S3}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")
_OF_NETWORKS = ("aiohttp", "requests", "urllib3", "httpx", "gcsfs")  # packages whose errors all are of a network
_OF_BOTOCORE_NETWORKS = {"HTTPClientError", "ConnectionError", "ClientError"}  # others say that a request is none
_AGAIN = (408, 425, 429)  # statuses below 500 that ask for another try


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises
    ------
    MissingDependency
        When a package is not installed that the scheme of the URL needs.
    InvalidChoice
        When there is no such scheme.
    BadData
        When its server refuses or does not answer, where it is asked at once.
    """
    try:
        import fsspec.core  # an optional package
    except ImportError as error:
        raise MissingDependency(f"reading {scheme(url)}:// needs fsspec: {_INSTALL}") from error
    if "::" in url:
        raise InvalidChoice(f"{shown(url)!r} chains file systems by ::, which is not read; name the file itself.")
    try:
        found, path = fsspec.core.url_to_fs(url, **_OPTIONS.get(scheme(url), {}))
        found.invalidate_cache()  # what is stored may have changed since an earlier call
        if scheme(url) in ("s3", "s3a"):
            found.retries = 1  # as of botocore: s3fs repeats requests by itself, too
    except ImportError as error:
        install = f"{one_line(error)}: {_INSTALL}" if scheme(url) in _IN_EXTRA else f"{one_line(error)}."
        raise MissingDependency(f"{scheme(url)}:// cannot be read yet. {install}") from error
    except ValueError as error:
        raise InvalidChoice(
            f"{shown(url)!r} cannot be read ({redacted(one_line(error))}); give a path, or a URL such as "
            "s3://BUCKET/FOLDER or https://HOST/FILE.zip."
        ) from None
    except Exception as error:  # each file system has its own
        raise BadData(f"cannot read {shown(url)}: {redacted(one_line(error))}.") from None
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if user and path.startswith(user):
        raise InvalidChoice(
            f"{scheme(url)}:// takes no user and password in the URL; give {shown(url)}, and set them in the "
            "environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://."
        )
    return found, path


def attempt(call: Callable[[], Result], name: str, verb: str = "read", tries: int | None = None) -> Result:
    """What a call to a server returns, which is repeated where the server or the network fails.

    Parameters
    ----------
    name : str
        What is asked for, in messages.
    verb : str
        What is to be done with it, in messages.
    tries : int, optional
        How often the server is asked; by default `TRIES` times.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        What the server says of the file, in its `strerror`.
    Unreachable
        When the server does not answer as it should, again and again.
    """
    tries = TRIES if tries is None else tries
    for number in range(tries):
        try:
            return call()
        except LayertapError:
            raise
        except Exception as error:  # each file system has its own
            cause = _cause(error)
            if final := _final(cause, verb):
                raise final from None  # what a library says may show secrets
            if number == tries - 1:
                advice = "check its address and the network, or try again later."
                if verb != "read":  # then there is something that was computed
                    advice = "try again later: what was computed is kept."
                raise Unreachable(
                    f"cannot {verb} {name}: the server does not answer ({redacted(one_line(cause))}); {advice}"
                ) from None
            time.sleep(FIRST_WAIT * 2**number * random.uniform(0.5, 1.5))  # else all would ask together again
    raise AssertionError("it returns or raises before")


def version_of(info: Mapping[str, Any]) -> str:
    """What changes whenever the content of a file does, as the server says; empty where it says nothing of the kind.

    Examples
    --------
    >>> version_of({"ETag": '"5d41"', "size": 5}), version_of({"size": 5})
    ('5d41', '')
    """
    for name in ("ETag", "etag", "blob_id", "md5Hash"):
        value = info.get(name)
        if isinstance(value, str) and not value.startswith("W/"):  # such a one may be the same for other bytes
            return value.strip('"')
    return ""


def _cause(error: BaseException) -> BaseException:
    """What went wrong: for HTTP, fsspec tells of any failure as of a file that is not there."""
    cause = error.__cause__
    of_http = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp")
    return cause if cause and of_http and isinstance(error, FileNotFoundError) else error


def _final(error: BaseException, verb: str) -> OSError | None:
    """The error to raise where another try would end alike; None for one of the server or the network."""
    status = getattr(error, "status", None)  # of HTTP
    if isinstance(error, PermissionError) or status in (401, 403, 407):
        return PermissionError(
            errno.EACCES, f"access is denied; check the credentials, and whether they allow to list and {verb} it"
        )
    if type(error).__name__ in _NO_CREDENTIALS:
        return PermissionError(
            errno.EACCES,
            "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or "
            "FSSPEC_S3_ANON=true where everybody may read it",
        )
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(errno.ENOENT, "there is no such file")
    if isinstance(status, int):
        transient = status >= 500 or status in _AGAIN
    else:
        kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("botocore")}
        transient = isinstance(error, OSError) or bool(kinds & _OF_BOTOCORE_NETWORKS)
        transient |= type(error).__module__.startswith(_OF_NETWORKS)
    if isinstance(error, IsADirectoryError | NotADirectoryError) or not transient:
        return OSError(errno.EIO, redacted(one_line(error)))
    return None
