"""`layertap review`, and the corrections that flow back into training, on digits of which some labels were changed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import layertap as lt

CHANGED = 15


@pytest.fixture
def flipped(tmp_path: Path) -> list[str]:
    """300 digits in ``digits.npz``, 15 of them with a wrong label: the ids of these."""
    digits = load_digits()
    images, labels = np.rint(digits.images[:300] * (255 / 16)).astype(np.uint8), digits.target[:300]
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(300, CHANGED, replace=False))
    labels[places] = (labels[places] + rng.integers(1, 10, CHANGED)) % 10
    np.savez(tmp_path / "digits.npz", X=images, y=labels)
    return [f"{place:03d}" for place in places]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_wrong_labels_are_found_and_flow_back(main: Callable[..., Any], flipped: list[str], tmp_path: Path):
    train = ("train-head", "digits.npz", "--net", "glyphnet", "--head", "ridge", "--cv", 3, "--quiet", "--out")
    assert main(*train, "run").status == 0
    done = main("review", "run", "--json", "--quiet")
    found = json.loads(done.stdout)
    rows = rows_of(tmp_path / "review" / "review.csv")
    assert len({row["id"] for row in rows}) == len(rows) == len(found["findings"])  # an image has one row
    first = [row["id"] for row in rows[:CHANGED]]
    assert len(set(first) & set(flipped)) >= 0.8 * CHANGED
    page = (tmp_path / "review" / "review.html").read_text(encoding="utf-8")
    assert "Labels that are likely wrong" in page
    assert "default-src 'none'" in page

    for row in rows:  # as the page does for "Accept all suggestions"
        row["action"] = "relabel" if row["kind"] == "label" else ""
    rows[0] |= {"action": "drop", "label": ""}
    with (tmp_path / "decided.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    again = main(*train, "better", "--corrections", "decided.csv")
    assert again.status == 0
    assert "Extracting" not in again.stderr  # labels are no part of the cache
    config = json.loads((tmp_path / "better" / "config.json").read_text())
    relabelled = sum(row["action"] == "relabel" for row in rows)
    recorded = config["data"]["corrections"]
    assert (recorded["dropped"], recorded["relabelled"], len(recorded["sha256"])) == (1, relabelled, 64)
    better, before = lt.load_run("better").scores["accuracy"].mean, lt.load_run("run").scores["accuracy"].mean
    assert better > before
    # The review of a run with corrections holds them, too: one table has it all.
    reviewed = main("review", "better", "--out", "second", "--quiet")
    assert reviewed.stdout.splitlines()[-1] == (
        "Next: layertap train-head digits.npz --corrections second/review.csv --net glyphnet --layer block4_pool "
        "--head ridge --cv 3 --out better-corrected"
    )
    second = {row["id"]: row for row in rows_of(tmp_path / "second" / "review.csv")}
    for row in rows:
        if row["action"]:
            assert (second[row["id"]]["action"], second[row["id"]]["label"]) == (row["action"], row["label"] or "")
    assert second[rows[0]["id"]]["reason"] == "dropped before this run was trained"
    as_trained, once_more = (
        lt.load_dataset("digits.npz", corrections=file) for file in ("decided.csv", "second/review.csv")
    )
    assert as_trained.ids == once_more.ids
    np.testing.assert_array_equal(as_trained.labels, once_more.labels)


def test_a_review_says_that_its_data_lack_the_corrections_of_the_run(tmp_path: Path):
    (tmp_path / "drop.csv").write_text("id,action\ndigit-0000,drop\n")
    plain, chosen = lt.load_dataset("digits"), np.arange(200)
    corrected = lt.load_dataset(plain.select(chosen), corrections=tmp_path / "drop.csv")
    features = lt.extract(corrected, "glyphnet", layers=["block4_pool"], cache=tmp_path / "cache", progress=False)
    run = lt.train_head(corrected, features, "ridge", cv=2, progress=False)
    options = {"cache": tmp_path / "cache", "progress": False}
    assert lt.review(run, corrected, **options).notes == ()
    [note] = lt.review(run, plain.select(chosen), **options).notes
    assert note.startswith(f"the run was trained with the corrections {tmp_path / 'drop.csv'}, and digits was loaded")


def test_runs_that_cannot_be_reviewed_are_refused(mistake: Callable[..., str], main: Callable[..., Any], data: Path):
    train = ("train-head", data, "--net", "glyphnet", "--head", "ridge", "--quiet", "--map", "pca", "--out")
    main(*train, "half", "--valid", 0.25)
    assert "train it with --cv 5, which holds out each image once" in mistake("review", "half")
    assert "--cv 5" in mistake("review", "half") or "cv=5" in mistake("review", "half")
    main(*train, "run", "--cv", 2)
    (data / "dark" / "0.png").unlink()
    assert "lacks 1 of the images that run was trained on, such as 'dark/0.png'" in mistake("review", "run")
    assert not Path("review").exists()
