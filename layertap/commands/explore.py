"""`layertap explore`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from feature_cache.errors import BadImage
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_table
from layertap.flags import with_flags
from layertap.progress.shown import ShownProgress
from layertap.report.explore import findings, page
from layertap.workflows import explore as workflow
from layertap.workflows.explore import kit_test_set
from transfer.data.tables import SUFFIXES

if TYPE_CHECKING:
    from transfer.data.datasets import Dataset

SHOWN = 10  # of a list
MOST_CLASSES = 40  # of the table; of more, the most frequent
BAR = 40  # characters


def explore(args: argparse.Namespace) -> None:
    decoding, options = shared.decoding(args), {"out": args.out or None, "overwrite": args.overwrite}
    options |= {"alpha": decoding.alpha, "window": decoding.window, "pages": decoding.pages}
    if args.size:
        options["size"] = args.size
    progress = partial(ShownProgress, quiet=args.quiet)
    survey = workflow.explore(shared.dataset(args), against=_against(args), progress=progress, **options)
    if args.json:
        print_json(survey.report)
    else:
        _print(survey.report)
        if survey.folder:
            print(f"\n{survey.folder / page.PAGE} shows the images and all findings; it needs no network.")
    for part in (survey.data, survey.against):
        if part and part.unreadable and not part.records:
            raise BadImage(f"no image of {part.dataset.name} can be read.")


def _against(args: argparse.Namespace) -> Dataset | None:
    """The other data set: the one that is named, or the test set of a RAMP kit."""
    name = args.against
    if name is None and args.split is None and (file := kit_test_set(args.data)):
        name = str(file)
    if name is None:
        return None
    images = args.images if name.lower().endswith(SUFFIXES) else None  # a folder has its own
    own = {"images": images, "corrections": None, "crops": shared.crops_of(args, name)}
    return shared.load(argparse.Namespace(**{**vars(args), **own}), name)


def _print(report: dict[str, Any]) -> None:
    print(f"{report['data']}: {_images(report['images'])}")
    _print_unreadable(report["unreadable"])
    if report["classes"]:
        print()
        _print_classes(report["classes"])
    if report["readable"]:
        print()
        print_table(("", ""), list(findings.facts(report).items()), left=(0, 1))
    for remark in report["remarks"]:
        print(f"  {with_flags(remark)}")
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
            print(f"  {one['id']}: {with_flags(one['reason'])}")
        _print_rest(len(unreadable))


def _print_copies(what: str, groups: list[dict[str, Any]]) -> None:
    """Print groups or pairs of images, those of different classes first."""
    differ = sum(one["classes_differ"] for one in groups)
    classes = f", {differ:,} of them with different classes" if differ else ""
    print(f"\n{what}: {len(groups):,}{classes}")
    for one in sorted(groups, key=lambda one: not one["classes_differ"])[:SHOWN]:
        images = [findings.named(image) for image in one["images"]]
        more = f" and {len(images) - SHOWN:,} more" if len(images) > SHOWN else ""
        print(f"  {one['alike']:.3f}  " + "  ".join(images[:SHOWN]) + more)
    _print_rest(len(groups))


def _print_rest(count: int) -> None:
    if count > SHOWN:
        print(f"  ... and {count - SHOWN:,} more; --json lists all")
