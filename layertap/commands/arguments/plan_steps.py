"""From the steps of a plan to command lines, by the parsers of the commands, and from a command line to its options."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, InvalidChoice, UnsafeFile, printable
from layertap.commands.arguments import commands, shared
from layertap.commands.arguments.parser import Parser
from layertap.plans.reading import PlanFile, Value
from layertap.plans.steps import Step
from layertap.plans.writing import write_plan
from transfer.nets.user_nets import is_code

STEPS = ("extract", "sweep", "train-head", "fine-tune", "evaluate", "export")
RUNS = ("train-head", "fine-tune")  # what they write appears whole or not at all
MOST_WORDS = 100_000  # of all steps
OF_RUN = ("json", "trust")  # options that `layertap run` takes for all steps
NOT_IN_PLANS = (*OF_RUN, "help", "help-all", "plan")
NOT_WRITTEN = ("json", "quiet", "overwrite", "trust", "help", "help-all")  # into the plan that repeats a command
CODE_OPTIONS = ("head-code", "net-code", "transform-code", "transform")  # whose values are files of the user's code
_CODE = re.compile(r".*\.py(?=:|$)", re.IGNORECASE | re.DOTALL)  # up to the last one, of FILE.py:FILE.py


def make_steps(plan: PlanFile, code: Iterable[str] = ()) -> list[Step]:
    """The steps of a plan, each of which its command's parser takes.

    Parameters
    ----------
    code : iterable of str
        Files and modules of the user's code that steps may name.

    Raises
    ------
    BadData
        When there is no such step or option, or a value is refused.
    UnsafeFile
        When a step would run other code.
    """
    parsers, allowed = _parsers(), {name for one in code for name in (one, str(Path(one).resolve()))}
    _require_known(plan, parsers)
    steps: list[Step] = []
    for number, (command, own) in enumerate(plan.steps, 1):
        where = f"step {number} ({command})"
        sub = parsers[command]
        options = {**_shared(sub, own, plan.shared), **own}
        _require_named_code(options, allowed, plan.folder, where)
        steps.append(_step(sub, command, options, number))
        if sum(len(step.words) for step in steps) > MOST_WORDS:
            raise BadData(f"{where}: the steps have more than {MOST_WORDS:,} words in all; divide the plan.")
    _require_own_places(steps)
    return steps


def _parsers() -> dict[str, Parser]:
    """The parsers of the commands that may be steps; a mistake raises an error."""
    [chosen] = [action for action in commands.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    parsers: dict[str, Parser] = {name: chosen.choices[name] for name in STEPS}
    for parser in parsers.values():
        parser.raises = True
    return parsers


def _actions(sub: Parser) -> dict[str, argparse.Action]:
    """The arguments that a step may have, by their long names without the dashes in front."""
    named = {
        action.option_strings[-1].lstrip("-") if action.option_strings else action.dest: action
        for action in sub._actions
    }
    return {name: action for name, action in named.items() if name not in NOT_IN_PLANS}


def _require_known(plan: PlanFile, parsers: Mapping[str, Parser]) -> None:
    """Raise BadData unless every step and every option is one that there is."""
    for number, (command, own) in enumerate(plan.steps, 1):
        if command not in parsers:
            raise BadData(_unknown(f"step {number}: there is no step", command, STEPS))
        for name in own:
            _require_option(name, _actions(parsers[command]), f"step {number} ({command})")
    of_all = {name for command, _ in plan.steps for name in _actions(parsers[command])}
    for name in plan.shared:
        _require_option(name, of_all, f"{plan.file}, above the steps")


def _require_option(name: str, known: Iterable[str], where: str) -> None:
    if name in OF_RUN:
        raise BadData(f"{where}: {name} holds for all steps; give it to layertap run, as --{name}.")
    if name not in known:
        raise BadData(_unknown(f"{where}: there is no option", name, known))


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    alike = difflib.get_close_matches(name, names, 1, 0.6)
    hint = f"; did you mean {alike[0]}?" if alike else f"; choose from {', '.join(names)}."
    return f"{what} {printable(name)!r}{hint}"


def _shared(sub: Parser, own: Mapping[str, Value], options: Mapping[str, Value]) -> dict[str, Value]:
    """The shared options that a step takes: those that its command has, and that its own ones do not rule out."""
    ruled_out: set[str] = set()
    of_features = {name.replace("_", "-") for name in shared.FEATURES}
    if own.get("from-head") is not None:
        ruled_out |= (of_features | {"space"}) - {"views", "augment"}
    if own.get("space") is not None:
        ruled_out |= of_features - {"transform"}
    actions = _actions(sub)
    for group in sub._mutually_exclusive_groups:
        names = {name for name, action in actions.items() if action in group._group_actions}
        ruled_out |= names if names & own.keys() else set()
    return {name: value for name, value in options.items() if name in actions and name not in ruled_out}


def _step(sub: Parser, command: str, options: Mapping[str, Value], number: int) -> Step:
    """A step with these options, which the parser of its command takes."""
    where, first, others = f"step {number} ({command})", list[str](), list[str]()
    texts: dict[str, list[str]] = {}
    for name, action in _actions(sub).items():
        value = options.get(name)
        if value is None:
            if action.required or name == "out":  # later steps name it, and a step done again writes there
                raise BadData(f"{where} lacks {name}.")
            continue
        texts[name] = _texts(action, value, f"{where}: {name}")
        if not action.option_strings:
            first += texts[name]
        else:
            others += _words(action, texts[name])
    try:
        sub.parse_args([*first, *others])
    except InvalidChoice as error:
        said = re.sub(r"(?:argument )?--?([a-z][a-z-]+)", r"\1", str(error))
        raise BadData(f"{where}: {said}") from error
    return Step(
        number,
        (command, *first, *others),
        tuple(text for name, values in texts.items() if name not in ("out", "cache") for text in values),
        out=next(iter(texts.get("out", ())), None),
        repeats=command == "extract",
        whole=command in RUNS,
        replaces="overwrite" in _actions(sub),
        continues=command == "sweep" or options.get("overwrite") is True,
    )


def _texts(action: argparse.Action, value: Value, where: str) -> list[str]:
    """The values of an option, each as it is typed; none of a flag that is not set."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise BadData(f"{where} is true or false.")
        return [""] if value else []
    if isinstance(value, bool):
        raise BadData(f"{where} takes a value; put it into quotation marks if it is {str(value).lower()}, yes or no.")
    repeated = isinstance(action, argparse._AppendAction)
    if isinstance(value, dict):
        if not repeated or "=" not in f"{action.metavar} {action.help}":
            raise BadData(f"{where} takes no mapping.")
        return [f"{name}={item if isinstance(item, str) else ','.join(item)}" for name, item in value.items()]
    listed = value if isinstance(value, list) else [str(value)]
    texts = listed if repeated or not listed else [",".join(listed)]
    if not action.option_strings and any(text.startswith("-") for text in texts):
        raise BadData(f"{where} begins with a dash; put ./ before it.")
    return texts


def _words(action: argparse.Action, texts: Sequence[str]) -> list[str]:
    """The words of an option; what begins with a dash is never taken for another option."""
    flag = action.option_strings[-1]
    if action.nargs == 0:
        return [flag for _ in texts]
    return [word for text in texts for word in ([f"{flag}={text}"] if text.startswith("-") else [flag, text])]


def _require_named_code(options: Mapping[str, Value], allowed: set[str], folder: Path, where: str) -> None:
    """Raise UnsafeFile where an option names code that the user has not."""
    for name, value in options.items():
        for text in _all_texts(value):
            source = _code(name, text)
            if source and not allowed & {source, str((folder / source).resolve())}:
                raise UnsafeFile(
                    f"{where}: {name} would run {printable(source)}; if you trust that code, name it yourself: "
                    f"layertap run PLAN --code {printable(source)}"
                )


def _all_texts(value: Value) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in ([item] if isinstance(item, str) else item)]
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _code(name: str, text: str) -> str:
    """The file or module of the user's code that the value of an option names; empty where it names none."""
    if match := _CODE.match(text):
        return match[0]
    if name in CODE_OPTIONS or (name == "net" and is_code(text)):
        return text.rpartition(":")[0] or text
    return ""


def _require_own_places(steps: Sequence[Step]) -> None:
    """Raise BadData where two steps write to one place."""
    writers: dict[str, Step] = {}
    for step in steps:
        if step.out is not None and (other := writers.setdefault(step.name, step)) is not step:
            raise BadData(
                f"steps {other.number} and {step.number} both write {step.out}; give each an `out` of its own."
            )


def write_plan_of(args: argparse.Namespace) -> None:
    """Write the plan that repeats a command into the folder that it has written, beside what it wrote last time."""
    command, *words = args.words
    [chosen] = [action for action in commands.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    typed = _typed(chosen.choices[command], words)
    typed["out"] = f"{args.out.rstrip('/')}-again"
    sources = dict.fromkeys(
        source for name, value in typed.items() for text in _all_texts(value) if (source := _code(name, text))
    )
    code = [word for source in sources for word in ("--code", source)]
    code += [word for module in args.trust or () for word in ("--trust", module)]
    write_plan(Path(args.out), command, typed, code)


def _typed(sub: Parser, words: Sequence[str]) -> dict[str, Any]:
    """The options of a command line that are not the defaults, by their long names, as they were typed."""
    actions = {name: action for name, action in _actions(sub).items() if name not in NOT_WRITTEN}
    for action in sub._actions:
        action.type = None
    values = vars(sub.parse_args(words))
    typed: dict[str, Any] = {}
    for name, action in actions.items():
        value = values[action.dest]
        if value not in (None, [], False) and str(value) != str(action.default):
            typed[name] = _by_name(action, value) if isinstance(value, list) else value
    return typed


def _by_name(action: argparse.Action, values: list[str]) -> Value:
    """The values of a repeated option: a mapping where each is ``NAME=VALUE`` and no name is there twice."""
    pairs = [value.partition("=") for value in values]
    if "=" not in str(action.metavar) or len({name for name, _, _ in pairs}) < len(pairs):
        return values
    return {name: value.split(",") if "," in str(action.metavar) else value for name, _, value in pairs}
