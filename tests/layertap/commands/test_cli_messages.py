"""What is written where: numbers with all their digits, each unreadable image once, and nothing by libraries."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap.commands.extract import _print_times
from transfer.extraction.report import Report


def broken_tiff(file: Path) -> None:
    """A TIFF file of which libtiff complains when it is decoded."""
    pixels = np.random.default_rng(1).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(file, compression="tiff_lzw")
    encoded = bytearray(file.read_bytes())
    encoded[100:400] = bytes(300)
    file.write_bytes(encoded)


def test_an_unreadable_image_is_named_once_and_by_us_alone(main: Callable, data: Path) -> None:
    broken_tiff(data / "dark" / "broken.tif")
    skip = ("--on-error", "skip", "--quiet")
    done = [main("extract", data, *skip)]
    assert main("train-head", data, *skip[:2], "--head", "ridge", "--cv", 2, "--out", "run").status == 0
    done += [
        main("evaluate", "run", data, *skip),
        main("predict", "run", data, *skip),
        main("explore", data, "--quiet"),
    ]
    for outcome in done:
        assert outcome.status == 0, outcome.stderr
        assert (outcome.stdout + outcome.stderr).count("broken.tif") == 1
        assert "LZWDecode" not in outcome.stderr
    assert all("broken.tif" in outcome.stderr for outcome in done[:3])
    assert done[3].stderr == ""
    swept = main("sweep", data, "--head", "ridge", "--cv", 2, *skip, "--out", "sweep")
    assert swept.stderr.count("broken.tif") == 1
    report = main("evaluate", "run", data, *skip, "--json")
    assert "broken.tif" not in report.stderr
    for text in (report.stdout, Path("sweep/sweep.json").read_text()):
        assert [one["id"] for one in json.loads(text)["skipped"]] == ["dark/broken.tif"]


def test_predictions_have_all_digits(main: Callable, data: Path) -> None:
    assert main("extract", data, "--quiet").status == 0
    assert main("train-head", data, "--cv", 2, "--head", "ridge", "--out", "run").status == 0
    listed = json.loads(main("predict", "run", data, "--json").stdout)["predictions"]
    rows = list(csv.DictReader(main("predict", "run", data).stdout.splitlines()))
    for row, one in zip(rows, listed, strict=True):
        for name, value in one["probabilities"].items():
            assert np.float64(row[name]) == value or np.float32(row[name]) == np.float32(value)
    assert max(len(row["dark"]) for row in rows) > 8


@pytest.mark.parametrize(
    ("rate", "peak", "said"),
    [
        (2.0, 47961.7, "batches of 8; waited"),
        (2.0, 1.46, "batches of 8; waited"),
        (930.4, 1000.04, "batches of 8, 1,000 images/s where it waits for nothing; waited"),
        (2.0, 4.04, "batches of 8, 4 images/s where it waits for nothing; waited"),
    ],
)
def test_the_rate_of_the_engine_is_said_where_it_means_something(
    rate: float, peak: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(
        spaces=[],
        rows_total=10,
        rows_computed=10,
        rows_reused=0,
        rows_skipped=0,
        seconds=20.0,
        images_per_second=rate,
        bytes_written=0,
        engine="openvino",
        batch_size=8,
        waited={"prepare": 0.0, "compute": 1.0},
        peak=peak,
    )
    _print_times(report)
    assert said in capsys.readouterr().out


def test_the_report_counts_each_image_once_however_often_it_was_held_out(main: Callable, data: Path) -> None:
    assert main("extract", data, "--quiet").status == 0
    protocol = ("--cv", 2, "--repeats", 3)
    assert main("train-head", data, "--head", "ridge", *protocol, "--out", "run").status == 0
    counts = re.findall(
        r'<th scope="row">(?:bright|dark)</th>.*?<td class="n">([\d,]+)</td></tr>', Path("run/report.html").read_text()
    )
    assert counts == ["6", "6"]
