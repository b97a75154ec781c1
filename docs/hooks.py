"""What MkDocs does for this site besides rendering its pages: the two references, and a check of each page.

MkDocs calls the functions whose names begin with ``on_``. The page ``reference/commands.md`` holds a marker, which is
replaced by the description of every command, its options and their defaults, as the program's own parser declares
them. The page ``reference/python.md`` names what `layertap` offers; mkdocstrings reads the docstrings of the modules
that these names come from, and imports none of them. Every finished page is searched for files that a browser would
load from the network; there may be none.
"""

from __future__ import annotations

import argparse
import html
import logging
import re
from collections.abc import Iterator
from typing import Any, cast

import layertap
from layertap.commands.arguments.commands import parser as command_parser
from layertap.commands.arguments.parser import Parser

MARKER = "<!-- commands -->"
PUBLIC = re.compile(r"^::: layertap\.(\w+)$", re.MULTILINE)
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="(https?:[^"]+)|"""
    r"""<link\b(?=[^>]*\brel="(?:stylesheet|preconnect|icon))[^>]*\bhref="(https?:[^"]+)"""
)
# In a text of the parser: options with their value after "=", variables of the environment, and paths.
CODE = re.compile(r"((?<![\w-])--?[a-z][\w-]*(?:=[\w.,%-]+)?|\$[A-Z_]+|(?:\./|~/)[\w./-]+\w)")
SPECIAL = re.compile(r"[\\`*_<\[|]")  # in Markdown
LOG = logging.getLogger("mkdocs.hooks")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert the command reference at its marker, and the homes of the public names of `layertap` in their lines."""
    markdown = PUBLIC.sub(_with_home, markdown)
    return markdown.replace(MARKER, command_reference()) if MARKER in markdown else markdown


def _with_home(match: re.Match[str]) -> str:
    """What mkdocstrings needs to know of one public name: the module that has it, and its heading."""
    name = match[1]
    options = [f"heading: {name}", f"toc_label: {name}", "heading_level: 3"]
    return "\n".join([f"::: {layertap._HOMES[name]}.{name}", "    options:", *(f"      {line}" for line in options)])


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Warn of each file that the page would load from the network; a strict build fails by that."""
    for match in LOADED.finditer(output):
        LOG.warning("%s loads %s", page.file.src_uri, match[1] or match[2])


def command_reference() -> str:
    """The reference of all commands, as Markdown: a table of them, and a section for each."""
    parsers = list(_commands(command_parser()))
    rows = [
        f"| [{_name(parser)}](#{_anchor(parser)}) | {_text(parser.description or '', parser)} |" for parser in parsers
    ]
    table = "\n".join(["| Command | What it does |", "|---|---|", *rows])
    return "\n\n".join([table, *(section for parser in parsers for section in _sections(parser))])


def _name(parser: Parser) -> str:
    """The name of a command without that of the program: ``cache list``."""
    return parser.prog.partition(" ")[2]


def _anchor(parser: Parser) -> str:
    """The part of a link that leads to the section of a command: ``cache-list``."""
    return _name(parser).replace(" ", "-")


def _commands(parser: Parser) -> Iterator[Parser]:
    """The parsers of all commands that can be run, in the order of the help."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield parser
    for action in nested:
        for inner in action.choices.values():
            yield from _commands(cast(Parser, inner))


def _sections(parser: Parser) -> Iterator[str]:
    """The heading, the description, the usage, the examples and the groups of options of one command."""
    yield f"## {_name(parser)} {{ #{_anchor(parser)} }}"
    yield _text(parser.description or "", parser)
    yield f"```text\n{parser._short_usage()}\n```"
    if parser.examples:
        yield "```bash\n" + "\n".join(f"# {text}\nlayertap {line}" for line, text in parser.examples) + "\n```"
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if _is_shown(action)]
        if actions:
            title = html.escape((group.title or "").replace("positional ", "").capitalize())
            yield f"**{title}**" + (f": {_text(group.description, parser)}" if group.description else "")
            yield from (_option(action, parser) for action in actions)
    if parser.next_step:
        yield f"**Next**: `{parser.next_step}`"


def _is_shown(action: argparse.Action) -> bool:
    """Whether an argument belongs to the reference: neither hidden nor one of the two helps."""
    return action.help is not argparse.SUPPRESS and not {"--help", "--help-all"} & set(action.option_strings)


def _option(action: argparse.Action, parser: Parser) -> str:
    """One argument or option as an item of a definition list."""
    names = ", ".join(f"`{text}`" for text in _invocation(action))
    required = " (required)" if action.option_strings and action.required else ""
    return f"{names}{required}\n:   {_text(action.help or '', parser, action)}"


def _invocation(action: argparse.Action) -> list[str]:
    """How the argument is written, once for each of its names: ``--size SIZE``."""
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return [value]
    return list(action.option_strings) if action.nargs == 0 else [f"{name} {value}" for name in action.option_strings]


def _text(text: str, parser: Parser, action: argparse.Action | None = None) -> str:
    """A text of the parser as Markdown; options, file names and placeholders are set as code."""
    values = {**(vars(action) if action else {}), "prog": parser.prog}
    words = " ".join((text % values).split())
    parts = CODE.split(words)  # every second part is code
    return "".join(f"`{part}`" if number % 2 else SPECIAL.sub(r"\\\g<0>", part) for number, part in enumerate(parts))
