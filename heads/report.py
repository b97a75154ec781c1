"""The report of a run: one HTML file that needs nothing beside it, no network and no script."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData
from feature_cache.storage import new_file
from heads.drawing import DOTS_PER_INCH, PIXELS_PER_INCH, printable

REPORT_FILE = "report.html"
MOST_CLASSES = 30  # more are folded away, behind the worst
WORST = 15
MOST_ITEMS = 12  # of a list
# How a score is called and written, in this order; others follow by their own name.
SCORES = {
    "accuracy": ("accuracy", ".4f"),
    "balanced_accuracy": ("balanced accuracy", ".4f"),
    "top_5": ("top-5 accuracy", ".4f"),
    "nll": ("log-loss", ".4f"),
    "ece": ("calibration error", ".4f"),
    "roc_auc": ("ROC AUC, macro", ".4f"),
    "subset_accuracy": ("accuracy of all labels", ".4f"),
    "f1_micro": ("F1, micro", ".4f"),
    "f1_macro": ("F1, macro", ".4f"),
    "average_precision": ("average precision", ".4f"),
    "rmse": ("RMSE", ".4g"),
    "mae": ("mean absolute error", ".4g"),
    "r2": ("R²", ".4f"),
    "n": ("images", ",.0f"),
    "fit_seconds": ("seconds to fit", ".3g"),
    "predict_seconds": ("seconds to predict", ".3g"),
}
STYLE = """
:root { color-scheme: light dark; --ink: #222; --gray: #666; --line: #ddd; --page: #fff; --bar: #d6e6f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --gray: #a0a0a0; --line: #3c3c3c; --page: #181a1b; --bar: #24445f; }
}
@media print { :root { color-scheme: light; --ink: #000; --gray: #444; --line: #ccc; --page: #fff; --bar: #e4eef7; } }
body { max-width: 740px; margin: 2rem auto; padding: 0 1rem; color: var(--ink); background: var(--page);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; break-after: avoid; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; break-after: avoid; }
p, summary { color: var(--gray); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
tr { break-inside: avoid; }
th, td { padding: .22rem .7rem .22rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-weight: normal; overflow-wrap: anywhere; }
thead th { color: var(--gray); vertical-align: bottom; }
tbody th { min-width: 7rem; max-width: 24rem; }
.made { columns: 19rem 2; column-gap: 2rem; }
.made section { break-inside: avoid; padding-top: .1px; }
.made table { width: 100%; }
.made h3 { margin-top: .6rem; }
.made th { width: 50%; min-width: 0; color: var(--gray); }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-left: .7rem; }
.bar { background: linear-gradient(to right, var(--bar) calc(var(--share) * 100%), transparent 0) padding-box;
  border-left: .8rem solid transparent; print-color-adjust: exact; min-width: 4.5rem; }
figure { margin: 0; break-inside: avoid; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
summary { cursor: pointer; margin: .8rem 0; }
@media print { body { margin: 0 auto; } img { max-height: 11cm; width: auto; } }
"""


def write_report(
    folder: Path,
    title: str,
    scores: Mapping[str, Mapping[str, Any]],
    made: Mapping[str, Mapping[str, Any]],
    per_class: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, Path] | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write ``report.html`` into `folder`. Texts are shown as they are, whatever they hold.

    Parameters
    ----------
    scores : mapping of str to mapping
        For each part, ``train``, ``valid``, ``test``: scores by name, each a number, None, or ``mean`` and ``std``
        over splits (see `heads.evaluation.Evaluation.summary`).
    made : mapping of str to mapping
        How the run was made, by heading: ``{"Features": {"net": "vgg16", ...}, "Head": {...}}``. Values are numbers,
        texts, None, or lists and mappings of these.
    per_class : sequence of mapping
        See `heads.metrics.per_class`.
    pictures : mapping of str to Path, optional
        PNG files, by heading, in the order in which they are shown.
    notes : iterable of str
        Sentences below the title.

    Returns
    -------
    Path
        Of the report.

    Raises
    ------
    BadData
        When a picture is not a PNG file.
    StorageFailure
        When the folder does not take the report.
    """
    parts = [
        *(f"<p>{_text(note)}</p>" for note in notes),
        "<h2>Scores</h2>",
        _scores(scores),
        "<h2>How it was made</h2>",
        '<div class="made">',
        *(f"<section><h3>{_text(heading)}</h3>{_made(values)}</section>" for heading, values in made.items() if values),
        "</div>",
    ]
    if per_class:
        parts += ["<h2>Classes</h2>", _classes(per_class)]
    for heading, file in (pictures or {}).items():
        parts.append(f"<h2>{_text(heading)}</h2>{_image(heading, file)}")
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Nothing is fetched and nothing is run, even if a text should find a way to be more than text.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    path = folder / REPORT_FILE
    with new_file(path, "the report", sync=False) as raw:
        raw.write(page.encode())
    return path


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    named = dict.fromkeys(name for of_part in scores.values() for name in of_part)
    rows = []
    for name in [*(name for name in SCORES if name in named), *(name for name in named if name not in SCORES)]:
        label, form = SCORES.get(name, (name.replace("_", " "), ".4g"))
        cells = "".join(f'<td class="n">{_score(of_part.get(name), form)}</td>' for of_part in scores.values())
        rows.append(f'<tr><th scope="row">{_text(label)}</th>{cells}</tr>')
    spread = any(isinstance(value, Mapping) for of_part in scores.values() for value in of_part.values())
    note = "<p>Mean ± standard deviation over the splits.</p>" if spread else ""
    return _table(["", *scores], rows) + note


def _score(value: Any, form: str) -> str:
    if isinstance(value, Mapping):
        mean, deviation = value.get("mean"), value.get("std")
        spread = "" if mean is None else format(deviation, form)
        return _score(mean, form) + (f" ± {spread}" if spread.strip("0.") else "")
    return "–" if value is None else _text(format(value, form))


def _made(values: Mapping[str, Any]) -> str:
    rows = (f'<tr><th scope="row">{_text(key)}</th><td>{_text(value)}</td></tr>' for key, value in _flat(values))
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Keys and values in words; those of a mapping in a mapping with both keys and a dot between."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.") if value else [(name, "–")]
        elif isinstance(value, (list, tuple)):
            some = ", ".join(_word(item) for item in value[:MOST_ITEMS])
            yield name, f"{some}, … ({len(value):,} in all)" if len(value) > MOST_ITEMS else some or "–"
        else:
            yield name, _word(value)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "–" if value is None else str(value)


def _classes(per_class: Sequence[Mapping[str, Any]]) -> str:
    if len(per_class) <= MOST_CLASSES:
        return _class_table(per_class)
    known = [of_class for of_class in per_class if of_class["f1"] is not None]
    worst = sorted(known, key=lambda of_class: of_class["f1"])[:WORST]
    return (
        f"<p>The {len(worst)} of {len(per_class):,} classes with the lowest F1.</p>{_class_table(worst)}"
        f"<details><summary>All {len(per_class):,} classes</summary>{_class_table(per_class)}</details>"
    )


def _class_table(per_class: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for of_class in per_class:
        shares = "".join(_share(of_class[name]) for name in ("precision", "recall", "f1"))
        name, support = _text(of_class["class"]), f"{of_class['support']:,}"
        rows.append(f'<tr><th scope="row">{name}</th>{shares}<td class="n">{support}</td></tr>')
    return _table(["class", "precision", "recall", "F1", "images"], rows)


def _share(value: float | None) -> str:
    if value is None:
        return '<td class="n">–</td>'
    return f'<td class="n bar" style="--share:{value:.3f}">{value:.3f}</td>'


def _table(columns: Iterable[str], rows: Iterable[str]) -> str:
    first, *others = (_text(column) for column in columns)
    head = f'<th scope="col">{first}</th>' + "".join(f'<th scope="col" class="n">{name}</th>' for name in others)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _image(heading: str, file: Path) -> str:
    content = file.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) < 24:
        raise BadData(f"{file} is not a PNG file; give pictures as PNG.")
    wide, high = (
        round(int.from_bytes(content[at : at + 4], "big") * PIXELS_PER_INCH / DOTS_PER_INCH) for at in (16, 20)
    )
    data = base64.b64encode(content).decode()
    alt = _text(heading)
    return f'<figure><img alt="{alt}" width="{wide}" height="{high}" src="data:image/png;base64,{data}"></figure>'


def _text(text: object) -> str:
    """`text` as HTML that shows it, in one line, and is nothing else."""
    return html.escape(printable(text))
