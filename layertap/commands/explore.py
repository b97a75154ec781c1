"""`layertap explore`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import BadImage
from feature_cache.files.atomic import check_free
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import Progress, print_json, print_table
from layertap.report import explore_pictures, explore_report

if TYPE_CHECKING:
    from transfer.data.datasets import Dataset

SHOWN = 10  # of a list
MOST_CLASSES = 40  # of the table; of more, the most frequent
BAR = 40  # characters


def explore(args: argparse.Namespace) -> None:
    from transfer.data import duplicates
    from transfer.data.survey import SIZE, survey

    out = Path(args.out) if args.out else None
    if out:
        check_free(out, "report", explore_pictures.is_report, overwrite=args.overwrite)
    start, decoding = time.monotonic(), shared.decoding(args)
    datasets = [dataset for dataset in (shared.dataset(args), _against(args)) if dataset is not None]
    surveys = []
    for dataset in datasets:
        with Progress("images", args.quiet) as progress:
            surveys.append(survey(dataset, args.size or SIZE, decoding=decoding, progress=progress))
    found = duplicates.find_copies(*surveys)
    report = explore_report.report(surveys, found)
    report["seconds"] = round(time.monotonic() - start, 3)
    if out:
        explore_pictures.write(out, report, surveys, found, overwrite=args.overwrite)
    if args.json:
        print_json(report)
    else:
        _print(report)
        if out:
            print(f"\nPictures are in {out}; {out / explore_pictures.PAGE} shows them all.")
    for one in surveys:
        if one.unreadable and not len(one.dataset):
            raise BadImage(f"no image of {one.dataset.name} can be read.")


def _against(args: argparse.Namespace) -> Dataset | None:
    """The other data set: the one that is named, or the test set of a RAMP kit."""
    from transfer.data import tables

    name = args.against
    if name is None and args.split is None and (file := tables.kit_file(Path(args.data), "test")):
        name = str(file)
    if name is None:
        return None
    return shared.load(args, name)


def _print(report: dict[str, Any]) -> None:
    print(f"{report['data']}: {_images(report['images'])}")
    _print_unreadable(report["unreadable"])
    if report["classes"]:
        print()
        _print_classes(report["classes"])
    if report["readable"]:
        print()
        print_table(("", ""), list(explore_report.facts(report).items()), left=(0, 1))
    for remark in report["remarks"]:
        print(f"  {remark}")
    _print_copies("Exact copies", report["copies"]["exact"])
    _print_copies("Near-duplicates", report["copies"]["near"])
    if left_out := report["copies"]["near_left_out"]:
        print(f"  {left_out:,} pairs that are less alike are left out")
    if against := report["against"]:
        leaks = against["leaks"]
        also = f"{leaks['images']:,} of them, or nearly the same, in {report['data']} too"
        print(f"\n{against['data']}: {_images(against['images'])}, {also}")
        _print_unreadable(against["unreadable"])
        _print_copies("Exact copies in both", leaks["exact"])
        _print_copies("Near-duplicates in both", leaks["near"])


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _print_classes(classes: dict[str, int]) -> None:
    shown = list(classes.items())
    if len(shown) > MOST_CLASSES:
        shown = sorted(shown, key=lambda item: -item[1])[:MOST_CLASSES]
    most = max(1, *classes.values())
    rows = [(name, f"{count:,}", "#" * (count and max(1, round(BAR * count / most)))) for name, count in shown]
    print_table(("class", "images", ""), rows, left=(0, 2))
    if len(classes) > len(shown):
        print(f"and {len(classes) - len(shown):,} classes more, down to {min(classes.values()):,} images")


def _print_unreadable(unreadable: list[dict[str, str]]) -> None:
    if unreadable:
        print(f"{len(unreadable):,} of them cannot be read:")
        for one in unreadable[:SHOWN]:
            print(f"  {one['id']}: {one['reason']}")
        _print_rest(len(unreadable))


def _print_copies(what: str, found: list[dict[str, Any]]) -> None:
    """Print groups or pairs of images, those of different classes first."""
    differ = sum(one["classes_differ"] for one in found)
    classes = f", {differ:,} of them with different classes" if differ else ""
    print(f"\n{what}: {len(found):,}{classes}")
    for one in sorted(found, key=lambda one: not one["classes_differ"])[:SHOWN]:
        images = [explore_report.named(image) for image in one["images"]]
        more = f" and {len(images) - SHOWN:,} more" if len(images) > SHOWN else ""
        print(f"  {one['alike']:.3f}  " + "  ".join(images[:SHOWN]) + more)
    _print_rest(len(found))


def _print_rest(count: int) -> None:
    if count > SHOWN:
        print(f"  ... and {count - SHOWN:,} more; --json lists all")
