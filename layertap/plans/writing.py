"""Writing the plan that repeats a command, without PyYAML: a text of JSON is one of YAML, too."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import layertap
from feature_cache.errors import printable
from feature_cache.files.atomic import new_file
from feature_cache.files.checked import real_path
from feature_cache.files.urls import redacted, shown
from layertap.plans.reading import Value

PLAN_FILE = "plan.yaml"
_PLAIN = re.compile(r"[A-Za-z][\w./+-]*", re.ASCII)
_WORDS = ("true", "false", "yes", "no", "on", "off", "y", "n", "null")  # that YAML takes for something else


def write_plan(folder: Path, command: str, options: Mapping[str, Value], code: Sequence[str] = ()) -> None:
    """Write the plan of one step into the folder that a command has written.

    The plan begins at the present working folder, so that the options hold as they were typed, but for what is secret
    in URLs.

    Parameters
    ----------
    options : mapping of str to Value
        The options by their long names; `out` is where the step of the plan writes.
    code : sequence of str
        The options of ``layertap run`` that name the user's code.

    Raises
    ------
    StorageFailure
        When it cannot be written.
    """
    file = real_path(folder) / PLAN_FILE
    try:
        start = Path(os.path.relpath(Path.cwd(), file.parent)).as_posix()
    except ValueError:  # another disk of Windows
        start = str(Path.cwd())
    words = shlex.join(["layertap", "run", str(folder / PLAN_FILE), *code])
    lines = [
        f"# Layertap {layertap.__version__} wrote this plan. It repeats what made this folder, and writes",
        f"# {printable(str(options.get('out')))}: {printable(words)}",
        f"folder: {yaml_text(start)}",
        "steps:",
        f"  - {command}:",
        *(f"      {name}: {_value(value)}" for name, value in options.items()),
    ]
    with new_file(file, "the plan of the run", sync=False) as stream:
        stream.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _value(value: Value) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{yaml_text(name)}: {_value(item)}' for name, item in value.items())}}}"
    return yaml_text(redacted(shown(value))) if isinstance(value, str) else json.dumps(value)


def yaml_text(text: str) -> str:
    """A text as YAML that `read_plan` reads as the same text.

    Examples
    --------
    >>> [yaml_text(text) for text in ("ridge", "5", "0.20", "no", "1e-3", "a: b")]
    ['ridge', '5', '"0.20"', '"no"', '"1e-3"', '"a: b"']
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    if re.fullmatch(r"0|[1-9][0-9]{0,17}|(0|[1-9][0-9]{0,8})\.[0-9]{1,6}", text) and str(json.loads(text)) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(character if character.isprintable() else _escaped(character) for character in quoted)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
