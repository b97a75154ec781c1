"""The exceptions that Layertap raises on purpose.

Each is also the built-in type that a caller expects. A message is one line that says what was requested, what was
received or is allowed, and what to do next. It names a parameter in backticks, for which the command line prints the
flag. The command line exits with `exit_code`: 2 where the user can change the command or the data, 1 for a failure.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 300  # characters of a name that is quoted


class LayertapError(Exception):
    """Base of every deliberate error."""

    exit_code = 2


class InvalidChoice(LayertapError, ValueError):
    """A name or value that is not among those allowed."""


class BadData(LayertapError, ValueError):
    """A data set that cannot be used as it is."""


class BadImage(BadData):
    """A file that cannot be read as an image.

    Attributes
    ----------
    reason : str
        Why the file cannot be read, for messages that name the image elsewhere.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason

    def alone(self) -> BadImage:
        """A copy of this error without its traceback, which would keep the image in memory."""
        return BadImage(str(self), self.reason)


class MissingFeatures(LayertapError, LookupError):
    """Rows that were requested and are not in the cache."""


class UnsafeFile(LayertapError, ValueError):
    """A file that would have to run code of its own to be loaded."""


class MissingDependency(LayertapError, ImportError):
    """A package that is needed and not installed."""


class WeightsUnavailable(LayertapError, OSError):
    """Pretrained weights that can neither be found nor fetched."""


class Unreachable(LayertapError, RuntimeError):
    """A server or a network that does not give what is read, again and again.

    It is no OSError, as which it would be taken for damage of the file that is read.
    """

    exit_code = 1


class Unsent(UserWarning):
    """What is on this machine and not in the bucket of its cache, though nothing that was asked for has failed."""


class DamagedFile(LayertapError, OSError):
    """A file of ours that is truncated, altered, foreign or of a newer format."""

    exit_code = 1


class DamagedSegment(DamagedFile):
    """A segment of a cache that is truncated, altered or foreign.

    Parameters
    ----------
    path : str
        The file, in the folder of its space.
    cache : str
        The folder of the cache.
    reason : str
        Why the segment cannot be used.

    Attributes
    ----------
    reason : str
    description : str
        The message without the advice.
    """

    def __init__(self, path: str, cache: str, reason: str) -> None:
        self.reason = reason
        self.description = f"{path} is damaged or not a segment of this cache ({reason})"
        super().__init__(
            f"{self.description}. Set it aside with: `feature_cache.maintenance.verify.repair({cache!r})`; the next "
            "extract computes its rows again."
        )


class StorageFailure(LayertapError, OSError):
    """A folder or disk that does not take what is written to it."""

    exit_code = 1


class WrongResult(LayertapError, ArithmeticError):
    """A converted or exported model that computes other numbers than it should."""

    exit_code = 1


def printable(content: object) -> str:
    """A text in one line, without characters that a terminal would act on or that no font can draw.

    Parameters
    ----------
    content : object
        Any object; its text may come from a file.

    Returns
    -------
    str
        Control characters, line ends, halves of surrogate pairs and the like are escape sequences.

    Examples
    --------
    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    text = str(content)
    if text.isprintable():
        return text
    return "".join(one if _is_printable(one) else one.encode("unicode_escape").decode() for one in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # spaces of all widths


def one_line(error: BaseException, *, with_type: bool = False) -> str:
    """What an error says, as one line of at most `LONGEST` characters.

    Parameters
    ----------
    error : BaseException
        Any exception. One without a text is described by the name of its class.
    with_type : bool
        Whether the name of the class comes first even where there is a text.

    Returns
    -------
    str
        All lines of the text, joined by spaces; `` ...`` stands for what is cut off.

    Examples
    --------
    >>> one_line(ValueError("no such layer:\\n  conv9"))
    'no such layer: conv9'
    >>> one_line(MemoryError())
    'MemoryError'
    >>> one_line(ValueError("no such layer"), with_type=True)
    'ValueError: no such layer'
    """
    name = type(error).__name__
    if with_type:
        text = " ".join(f"{name}: {error}".split()) if str(error).strip() else name
    else:  # `str` of a KeyError is its text in quotes
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        text = " ".join(text.split()) or name
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def first_line(error: BaseException) -> str:
    """The first line of what an error says, with the second where the first ends with a colon.

    Frameworks append pages of advice to their messages; the first line is the message itself. Keras puts the name of
    the layer that failed before it. An error without a text is described by the name of its class.

    Examples
    --------
    >>> first_line(ValueError("the file is damaged.\\nPlease open an issue at ..."))
    'the file is damaged.'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith("Exception encountered when calling ") and lines[1:]:  # Keras; the reason is in bold
        lines = [line.removeprefix("\x1b[1m").removesuffix("\x1b[0m") for line in lines[1:]]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def unknown(kind: str, name: str, allowed: Iterable[str], hint: str = "") -> InvalidChoice:
    """The error for an unknown name, with the nearest allowed ones, or the one that differs in case and dashes only.

    Parameters
    ----------
    kind : str
        The start of the sentence: ``"there is no net"``.
    name : str
        The unknown name.
    allowed : iterable of str
        The known names.
    hint : str
        What to do next, as a sentence.

    Examples
    --------
    >>> str(unknown("there is no net", "vg16", ["vgg16", "resnet50"]))
    "there is no net 'vg16'; did you mean 'vgg16'?"
    >>> str(unknown("there is no net", "ResNet-50", ["resnet50", "resnet50v2"]))
    "there is no net 'ResNet-50'; did you mean 'resnet50'?"
    """
    allowed = list(allowed)
    if near := nearest(name, allowed):
        guess = f"; {did_you_mean(near)}"
    else:
        guess = f"; allowed: {', '.join(allowed)}." if 0 < len(allowed) <= 12 else "."
    return InvalidChoice(f"{kind} {name[:LONGEST]!r}{guess}" + (f" {hint}" if hint else ""))


def did_you_mean(names: Iterable[str]) -> str:
    """The question whether one of these names is meant."""
    return f"did you mean {' or '.join(repr(name) for name in names)}?"


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that are most like another one.

    Where one differs only in case, or in what separates its words, it is the only one.

    Examples
    --------
    >>> nearest("efficientnet-lite0", ["efficientnetb0", "efficientnetlite0"]), nearest("vg", ["resnet50"])
    (['efficientnetlite0'], [])
    """
    by_lower = {each.lower(): each for each in known}
    letters = _letters(name)
    if same := [each for lower, each in by_lower.items() if letters and _letters(lower) == letters]:
        return same[:most]
    return [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, n=most, cutoff=0.6)]


def _letters(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).lower()
