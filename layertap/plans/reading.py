"""Reading the file of a plan: its steps, and the options of each as they are written.

The file is not trusted: its size is limited, it has no aliases, and what is read are texts and lists of texts.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from feature_cache.errors import BadData, MissingDependency, one_line, printable
from feature_cache.files.checked import read_bytes

LARGEST = 2**16  # bytes of a plan, which take a second to read
MOST_STEPS = 1_000
DEEPEST = 16  # lists and mappings in each other
KEYS = ("folder", "steps")  # of a plan, beside the options that its steps share
# The value of an option: a flag, one text, several, or texts by names, each of which may be a list.
Value = bool | str | list[str] | dict[str, str | list[str]] | None


@dataclass(frozen=True)
class PlanFile:
    """What the file of a plan says.

    Attributes
    ----------
    file : Path
    folder : Path
        The folder that relative paths of the plan start from, absolute.
    shared : dict of str to Value
        Options of all steps that have them.
    steps : tuple of (str, dict of str to Value)
        The command of each step, and its options by their long names without the dashes in front. None stands for a
        shared option that is left out.
    """

    file: Path
    folder: Path
    shared: dict[str, Value]
    steps: tuple[tuple[str, dict[str, Value]], ...]


def read_plan(file: str | Path) -> PlanFile:
    """What the file of a plan says.

    Raises
    ------
    BadData
        When it cannot be read, or is no plan.
    MissingDependency
        When PyYAML is not installed.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "plan.yaml"
    >>> _ = file.write_text("data: photos\\nsteps:\\n  - train-head: {cv: 5, head: ridge, out: run}\\n")
    >>> plan = read_plan(file)
    >>> plan.shared, plan.steps
    ({'data': 'photos'}, (('train-head', {'cv': '5', 'head': 'ridge', 'out': 'run'}),))
    """
    file = Path(file)
    content = _content(file)
    if not isinstance(content, dict) or "steps" not in content:
        keys = [key for key in content if isinstance(key, str)] if isinstance(content, dict) else []
        alike = difflib.get_close_matches("steps", keys, 1)
        hint = f"; did you mean steps by {printable(alike[0])}?" if alike else "."
        raise BadData(f"{file} is no plan: it has no list of 'steps'{hint}")
    folder = content.get("folder", ".")
    if not isinstance(folder, str) or "\0" in folder:
        raise BadData(f"the 'folder' of {file} is no path.")
    shared = {key: value for key, value in content.items() if key not in KEYS}
    steps = content["steps"]
    if not isinstance(steps, list) or not 1 <= len(steps) <= MOST_STEPS:
        raise BadData(f"the 'steps' of {file} are no list of 1 to {MOST_STEPS:,} commands.")
    return PlanFile(
        file,
        (file.absolute().parent / folder).resolve(),
        _options(shared, str(file)),
        tuple(_step(step, number) for number, step in enumerate(steps, 1)),
    )


def _content(file: Path) -> Any:
    try:
        import yaml  # an optional package
    except ImportError as error:
        raise MissingDependency(f"reading {file} needs PyYAML: pip install 'layertap[plan]'") from error

    class Loader(yaml.SafeLoader):
        """Refuses what makes a small file large, and keys of which only the last would count."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError(f"it has the alias *{self.peek_event().anchor}; options of all steps stand above them")
            if self.depth == DEEPEST:
                raise ValueError("it is nested too deep")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            names: set[str] = set()
            for key in (key.value for key, _ in node.value if isinstance(key.value, str)):
                if key in names:
                    raise ValueError(f"it has {printable(key)} twice in one place; make a list of its values")
                names.add(key)
            mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
            return mapping

    try:
        return yaml.load(read_bytes(file, LARGEST).decode("utf-8-sig"), Loader)
    except (OSError, yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise BadData(f"{file} cannot be read ({reason}).") from error


def _step(step: Any, number: int) -> tuple[str, dict[str, Value]]:
    """The command and the options of a step, which is ``COMMAND: {OPTION: VALUE}``, or a command alone."""
    if isinstance(step, str):
        step = {step: None}
    if not isinstance(step, dict) or len(step) != 1:
        raise BadData(f"step {number} is not one command with its options, as: train-head: {{head: ridge, out: run}}")
    [(command, options)] = step.items()
    where = f"step {number} ({printable(command)})"
    if not isinstance(options, dict | None):
        raise BadData(f"{where}: its options are no mapping, as: {{head: ridge, out: run}}")
    return str(command), _options(options or {}, where)


def _options(options: Mapping[Any, Any], where: str) -> dict[str, Value]:
    """The options of `where`, by names with dashes between words."""
    read: dict[str, Value] = {}
    for key, value in options.items():
        if not isinstance(key, str):
            raise BadData(f"{where}: {printable(key)} is no name of an option; put it into quotation marks.")
        name = key.replace("_", "-")
        if name in read:
            raise BadData(f"{where}: {printable(name)} is there twice.")
        read[name] = _value(value, f"{where}: {printable(key)}")
    return read


def _value(value: Any, where: str) -> Value:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_text(item, where) for item in value]
    if isinstance(value, dict):
        return {_text(name, where): _of_name(item, where) for name, item in value.items()}
    return _text(value, where)


def _of_name(value: Any, where: str) -> str | list[str]:
    return [_text(item, where) for item in value] if isinstance(value, list) else _text(value, where)


def _text(value: Any, where: str) -> str:
    """The text of one value, as it is typed on the command line."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        _refuse(value, where)
    if "\0" in value:
        raise BadData(f"{where} has a character of code 0.")
    return value


def _refuse(value: Any, where: str) -> NoReturn:
    kinds = {list: "a list in a list", dict: "a mapping in another", type(None): "nothing"}
    kind = kinds.get(type(value), f"a {type(value).__name__}")
    raise BadData(f"{where} is {kind}, and no text or number; a text may need quotation marks.")
