"""Arguments of the commands that maintain the cache."""

from __future__ import annotations

import argparse

from layertap.commands.arguments import options, types
from layertap.commands.arguments.parser import Parser, add_command


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `layertap cache` and its commands."""
    cache = commands.add_parser("cache", help="maintain the cache", description="Maintain the cache.")
    inner = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_showing(inner)
    _add_verify(inner)
    _add_removing(inner)
    _add_export(inner)
    _add_copying(inner)


def _add_showing(inner: argparse._SubParsersAction[Parser]) -> None:
    spaces, where = "layertap.commands.cache.spaces", options.add_cache
    add_command(
        inner,
        "list",
        f"{spaces}:list_spaces",
        "list the spaces of the cache, and what nets converted for OpenVINO take",
        where,
    )
    sub = add_command(inner, "info", f"{spaces}:info", "show the spec and the segments of a space", where)
    options.add_space(sub)


def _add_verify(inner: argparse._SubParsersAction[Parser]) -> None:
    text = "read all stored features and compare them with their checksums"
    sub = add_command(inner, "verify", "layertap.commands.cache.spaces:verify", text, options.add_cache)
    options.add_spaces(sub)
    sub.add_argument(
        "--repair", action="store_true", help="move damaged segments away, so that their rows are computed again"
    )
    sub.add_argument(
        "--recompute", type=types.positive, metavar="N", help="compute N random rows again, and compare them"
    )
    sub.add_argument("--images", dest="data", metavar="DATA", help="for --recompute: the data set of the images")
    options.add_columns(sub)
    sub.set_defaults(images=None, split=None, range=None, pages="first", max_pixels=None, corrections=None, crops=False)
    options.add_seed(sub)
    options.add_quiet(sub)


def _add_removing(inner: argparse._SubParsersAction[Parser]) -> None:
    maintenance, where = "layertap.commands.cache.maintenance", options.add_cache
    text = "merge small segments, and drop copies of rows"
    sub = add_command(inner, "compact", f"{maintenance}:compact", text, where)
    options.add_spaces(sub)
    packing = sub.add_mutually_exclusive_group()
    packing.add_argument("--compress", action="store_true", default=None, help="compress segments that are not")
    packing.add_argument(
        "--no-compress", dest="compress", action="store_false", help="decompress segments, for memory maps"
    )
    text = "remove spaces, nets converted for OpenVINO, and files that interrupted writers left behind"
    sub = add_command(inner, "prune", f"{maintenance}:prune", text, where)
    sub.add_argument("space", nargs="*", metavar="SPACE", help="spaces to remove (see layertap cache list)")
    sub.add_argument(
        "--older-than", type=types.days, metavar="DAYS", help="remove spaces and nets not used for so long: 30, or 30d"
    )
    sub.add_argument(
        "--max-size",
        type=types.bytes_,
        metavar="SIZE",
        help="remove the least recently used spaces until the cache is no larger, and nets likewise: 20GB",
    )
    sub.add_argument("--cited", action="store_true", help="remove also what existing runs were trained on")
    sub.add_argument("--yes", action="store_true", help="do not ask")


def _add_export(inner: argparse._SubParsersAction[Parser]) -> None:
    export, where = "layertap.commands.cache.export", options.add_cache
    text = "write one HDF5 file that shows all segments of a space"
    sub = add_command(inner, "view", f"{export}:view", text, where)
    options.add_space(sub)
    sub.add_argument("--out", required=True, metavar="FILE", help="HDF5 file to write")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")
    sub = add_command(inner, "export", f"{export}:export", "write the rows of a space as one plain file", where)
    options.add_space(sub)
    options.add_optional_data(sub, "images whose rows are written, in this order (default: all rows)")
    sub.add_argument("--out", required=True, metavar="FILE", help="file to write: .npy, .npz, .parquet or .h5")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _add_copying(inner: argparse._SubParsersAction[Parser]) -> None:
    where = options.add_cache
    text = "copy the spaces of another cache into this one"
    sub = add_command(inner, "merge", "layertap.commands.cache.maintenance:merge", text, where)
    sub.add_argument("other", metavar="OTHER", help="the other cache: a folder, or a URL")
    options.add_quiet(sub)
    text = "make a copy of a space in fewer bits or dimensions"
    sub = add_command(inner, "shrink", "layertap.commands.cache.spaces:shrink", text, where)
    options.add_space(sub)
    options.add_optional_data(sub, "labelled images on which a linear head is judged before and after")
    sub.add_argument("--to", required=True, choices=("float16", "int8", "pca"), help="how the copy is stored")
    sub.add_argument("--components", type=types.positive, metavar="K", help="number of components of pca")
    options.add_seed(sub)
    options.add_quiet(sub)
