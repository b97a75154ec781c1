"""Files that were damaged at random, or crafted: each is refused in a line, or means what it meant before."""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import resource
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feature_cache import FeatureCache, FeatureSpec, lineage
from feature_cache.errors import LayertapError
from feature_cache.files import sealed_folder
from feature_cache.files.digest_list import read_digests
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.maintenance.verify import verify
from heads import make_head
from heads.evaluation import pair_scores
from heads.evaluation.tasks import outputs
from heads.registry import record
from layertap import runs
from layertap.commands.cache.spaces import info, list_spaces
from layertap.run_config import RunConfig
from layertap.workflows.load_dataset import load_dataset
from transfer.finetune import checkpoint
from transfer.nets.catalogue import net_from_config

sys.path.insert(0, str(Path(__file__).parent / "heads"))
from toy_data import blobs  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no alarms")]

SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 48))
X, Y = blobs()
SECONDS = 5
MOST_MEMORY = 2**30  # bytes more than before
CRAFTED = [None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**70, "", "x" * 5000, "\0", "../../x", [], [[[]]], {}]
CRAFTED += [{"a": 1}, [None] * 100_000, "\ud800", [1.5], ["a"]]
HEADS = {
    "auto": ({}, 30),
    "logistic": ({}, 30),
    "linear": ({"epochs": 5}, 30),
    "knn": ({}, 30),
    "random-forest": ({"n_estimators": 5}, 30),
    "mlp": ({"epochs": 2, "hidden": 4}, 8),
    "conv": ({"epochs": 2, "filters": 2}, 8),
}


class Late(BaseException):
    """Something has taken longer than it may."""


def end(number: int, frame: object) -> None:
    raise Late


@pytest.fixture
def attempt() -> Iterator[Callable[..., None]]:
    """Calls a function, which has to refuse in a line, or to give what `expected` accepts, in time and in bounds."""
    before, begun = signal.signal(signal.SIGALRM, end), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: Counter[str] = Counter()

    def attempt(what: str, work: Callable[[], Any], expected: Callable[[Any], bool] | None = None) -> None:
        signal.alarm(SECONDS)
        try:
            value = work()
        except LayertapError as error:
            assert "\n" not in str(error), what
            assert 0 < len(str(error)) < 3000, what
            found["refused"] += 1
        except Late:
            pytest.fail(f"{what}: it takes more than {SECONDS} seconds")
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        else:
            assert expected is None or expected(value), what
            found["read"] += 1
        finally:
            signal.alarm(0)

    yield attempt
    signal.signal(signal.SIGALRM, before)
    assert found["refused"] + found["read"] >= 8
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) * 1024 < MOST_MEMORY


def damaged(content: bytes, rng: random.Random) -> bytes:
    """`content` with a bit or bytes flipped, cut off, blanked, made huge, repeated or left out."""
    new, at = bytearray(content), rng.randrange(len(content))
    match rng.randrange(7):
        case 0:
            new[at] ^= 1 << rng.randrange(8)
        case 1:
            del new[at:]
        case 2:
            new[at : at + rng.randrange(1, 64)] = bytes(rng.randrange(1, 64))
        case 3:
            new[at : at + 8] = rng.choice([b"\xff" * 8, b"\x7f" * 8, (2**62).to_bytes(8, "little")])
        case 4:
            start = rng.randrange(len(new))
            new[at:at] = new[start : start + rng.randrange(1, 200)]
        case 5:
            del new[at : at + rng.randrange(1, 200)]
        case _:
            for _ in range(rng.randrange(2, 20)):
                new[rng.randrange(len(new))] = rng.randrange(256)
    return bytes(new)


def crafted(document: Any, rng: random.Random) -> Any:
    """A JSON document in which a value or two are left out, or of another kind."""
    document = json.loads(json.dumps(document))

    def places(part: Any) -> Iterator[tuple[Any, Any]]:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            yield part, key
            yield from places(value)

    for _ in range(rng.randrange(1, 3)):
        if found := list(places(document)):
            part, key = rng.choice(found)
            if isinstance(part, dict) and rng.random() < 0.25:
                del part[key]
            else:
                part[key] = copy.deepcopy(rng.choice(CRAFTED))
    return document


def used(folder: Path) -> tuple[Any, ...]:
    """What predictions depend on in a run."""
    run = runs.load_run(folder)
    images = read_digests(folder / runs.HEAD_IMAGES)
    for _, net in run.parts:
        net_from_config(net, folder)
    return outputs(run.head, X), run.spec, run.task, run.views, images


def equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return np.array_equal(one[0], other[0]) and one[1:] == other[1:]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("kind", ["with digests", "digests made anew", "without digests"])
def test_runs(tmp_path: Path, attempt: Callable[..., None], name: str, kind: str) -> None:
    rng, (params, times) = random.Random(f"{name} {kind}"), HEADS[name]
    head = make_head(name, params).fit(X, Y)
    config = {
        "spec": json.loads(SPEC.to_json()),
        "net": {"name": "vgg16", "weights": None, "seed": 0, "preprocessing": None},
        "task": {"name": "classes"},
        "head": record(name, head),
        "views": {"count": 1, "average": False},
    }
    run = tmp_path / "run"
    with runs.new_run(run) as inside:
        runs.write(inside, head, RunConfig.from_json(config), {}, {bytes([number]) * 16 for number in range(20)})
    written, before = json.loads((run / "config.json").read_text()), used(run)
    files = sorted(file for file in run.iterdir() if file.name != runs.METRICS_FILE)

    def described() -> dict[str, Any]:
        plain = {key: value for key, value in written.items() if key not in ("files", "digest")}
        return crafted(plain, rng) if file.name == "config.json" else plain

    for number in range(times):
        file = rng.choice(files)
        content = file.read_bytes()
        if file.name != "config.json" or (kind == "with digests" and rng.random() < 0.5):
            file.write_bytes(damaged(content, rng))
        if kind == "with digests":
            if file.name == "config.json" and file.read_bytes() == content:
                file.write_text(json.dumps(crafted(written, rng)))
        elif kind == "without digests":
            (run / "config.json").write_text(json.dumps(described()))
        else:
            document = {key: value for key, value in described().items() if key != "format"}
            with contextlib.suppress(TypeError):  # a document that needs no change
                sealed_folder.seal(run, "config.json", {"format": 1, **document})
        same = (lambda value: equal(value, before)) if kind == "with digests" else None
        attempt(f"{number} {file.name}", lambda: used(run), same)
        file.write_bytes(content)
        (run / "config.json").write_text(json.dumps(written))


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_annotations(tmp_path: Path, attempt: Callable[..., None], kind: str) -> None:
    if kind == "yolo":
        pytest.importorskip("yaml")
    rng, file = random.Random(kind), tmp_path / ("a.json" if kind == "coco" else "data.yaml")
    for number in range(3):
        Image.new("L", (40, 30)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    images = [{"id": number, "file_name": f"{number}.png", "width": 40, "height": 30} for number in range(3)]
    boxes = [{"image_id": n % 3, "category_id": n % 2, "bbox": [n, n, 10, 8], "iscrowd": 0} for n in range(6)]
    categories = [{"id": number, "name": name} for number, name in enumerate("ab")]
    coco = {"images": images, "annotations": boxes, "categories": categories}
    yolo = {"names": ["a", "b"], "train": [".", "list.txt"], "path": "."}
    document = coco if kind == "coco" else yolo  # JSON is YAML
    for number in range(200 if kind == "coco" else 40):  # YAML is slow to read
        content = json.dumps(crafted(document, rng)).encode() if number % 2 else json.dumps(document).encode()
        file.write_bytes(content if number % 2 else damaged(content, rng))
        if kind == "yolo" and number % 4 == 1:
            tag = rng.choice([b"bool", b"int", b"float", b"timestamp", b"binary", b"set", b"omap", b"pairs", b"null"])
            file.write_bytes(content.replace(b": ", b": !!" + tag + b" ", 1))
        (tmp_path / "list.txt").write_bytes(damaged(b"./0.png\n/elsewhere/images/1.png\n../outside/2.png\n", rng))
        line = damaged(b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n", rng)
        (tmp_path / "0.txt").write_bytes(line)
        attempt(f"{number}", lambda: load_dataset(file, crops=True), lambda found: len(found) > 0)


@pytest.mark.parametrize("compress", [False, True])
def test_caches(tmp_path: Path, attempt: Callable[..., None], compress: bool) -> None:
    rng, cache = random.Random(int(compress)), FeatureCache(tmp_path / "cache")
    for part in range(9):
        numbers = np.random.default_rng(part)
        digests = np.frombuffer(numbers.bytes(16 * 40), np.uint8).reshape(40, 16)
        about = {"engine": "t", "net": {"name": "vgg16"}, "seconds": 1.0}
        with cache[SPEC].writer(about, compress=compress) as writer:
            writer.append(digests, numbers.standard_normal((40, 4, 4)).astype(np.float32))
    space = cache[SPEC]
    space.index.save(space.folder, SPEC.to_json())
    known = {key.tobytes(): row for key, row in zip(space.keys()[0], np.asarray(space.all_rows()), strict=True)}

    def read() -> tuple[np.ndarray, np.ndarray]:
        space = cache.open(SPEC.folder_name)
        found = space.keys()[0], np.asarray(space.all_rows())
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            args = argparse.Namespace(cache=str(cache.root), json=rng.random() < 0.5, space=SPEC.folder_name)
            list_spaces(args)
            info(args)
        verify(space)
        return found

    def right(found: tuple[np.ndarray, np.ndarray]) -> bool:
        return all(np.array_equal(known.get(key.tobytes(), ()), row) for key, row in zip(*found, strict=True))

    assert right(read())
    index = space.folder / "index.bin"
    files = [*sorted(space.folder.glob("segment-*.h5"))[:2], space.folder / "spec.json", index]
    for number in range(60):
        file = rng.choice(files)
        content, status, saved = file.read_bytes(), file.stat(), index.read_bytes()
        if file.name == "spec.json" and rng.random() < 0.5:
            file.write_text(json.dumps(crafted(json.loads(content), rng)))
        else:
            file.write_bytes(damaged(content, rng))
        if file.suffix == ".h5" and rng.random() < 0.5:
            index.unlink()
        if file.suffix == ".h5" and rng.random() < 0.5:
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        attempt(f"{number} {file.name}", read, right)
        index.write_bytes(saved)
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_the_cache_remembers(tmp_path: Path, attempt: Callable[..., None]) -> None:
    """`digests.sqlite` has no checks of its own: what is found has the right form, or is computed anew."""
    rng, file = random.Random(2), tmp_path / "digests.sqlite"
    stamps = [(f"/images/{number}.png", number, 1) for number in range(200)]
    memo = DigestMemo(file)
    memo.remember({stamp: bytes([number]) * 16 for number, stamp in enumerate(stamps)})
    memo.remember_pixels("key", {bytes([number]) * 16: bytes(16) for number in range(200)})
    content = file.read_bytes()

    def work() -> list[dict[Any, bytes]]:
        found = [memo.recall(stamps), memo.recall_pixels("key", [bytes([number]) * 16 for number in range(200)])]
        memo.remember({("/new.png", 1, 1): bytes(16)})
        memo.remember_pixels("key", {bytes(16): bytes(16)})
        return found

    def right(found: list[dict[Any, bytes]]) -> bool:
        return all(isinstance(value, bytes) and len(value) == 16 for part in found for value in part.values())

    for number in range(60):
        file.write_bytes(damaged(content, rng))
        attempt(str(number), work, right)
    for column in ("path", "size", "mtime", "digest"):
        for value in ("x", 2**62, b"y", None, 1.5):
            file.write_bytes(content)
            with sqlite3.connect(file) as store:
                store.execute(f"UPDATE OR REPLACE digests SET {column} = ?", (value,))
            store.close()
            attempt(f"{column} {value}", work, right)


def test_notes_of_runs(tmp_path: Path, attempt: Callable[..., None]) -> None:
    rng, run = random.Random(3), tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('"abc"')
    lineage.cite(tmp_path, run / "config.json", [lineage.Used("space", 3, "abc")])
    [file] = (tmp_path / lineage.RUNS_FOLDER).glob("*.json")
    content, before = file.read_bytes(), lineage.citations(tmp_path)
    assert len(before) == 1
    for number in range(80):
        if number % 2:
            file.write_bytes(damaged(content, rng))
        else:
            file.write_text(json.dumps(crafted(json.loads(content), rng)))
        attempt(str(number), lambda: lineage.citations(tmp_path))


def test_results_of_sweeps(tmp_path: Path, attempt: Callable[..., None]) -> None:
    rng, pair = random.Random(4), pair_scores.Pair("a", "logistic")
    numbers = {"mean": 0.5, "sd": 0.1}
    summary = {part: {"accuracy": numbers, "log_loss": numbers} for part in ("train", "valid")}
    result = pair_scores.Result(pair, summary, np.full(9, 1.0), np.full(9, 0.1))
    file = tmp_path / "result.npz"
    pair_scores._write(file, result)
    content = file.read_bytes()

    def right(found: pair_scores.Result | None) -> bool:
        return found is None or (
            found.summary == summary and np.array_equal(found.right, result.right) and found.loss[0] == 0.1
        )

    for number in range(150):
        file.write_bytes(damaged(content, rng))
        attempt(str(number), lambda: pair_scores._read(file, pair, 9), right)
    for number in range(100):
        pair_scores._write(file, pair_scores.Result(pair, crafted(summary, rng), result.right, result.loss))
        attempt(f"crafted {number}", lambda: _shown(pair_scores._read(file, pair, 9)))


def _shown(found: pair_scores.Result | None) -> float:
    return 0.0 if found is None else found.accuracy


def test_checkpoints(tmp_path: Path, attempt: Callable[..., None]) -> None:
    rng, file = random.Random(5), tmp_path / "run.training"
    stages = [[{"loss": 0.5, "steps": [0.5, 0.25]}], []]
    state = checkpoint.State(1, 2, 3, 4, stages=stages, losses=[0.25], seconds=1.5, least=0.5)
    state.weights, state.optimizer = [np.ones(3)], [np.ones(2)]
    checkpoint.write(file, "key", state)
    content = file.read_bytes()

    def right(found: checkpoint.State | None) -> bool:
        return found is None or (found.stages == state.stages and np.array_equal(found.weights[0], np.ones(3)))

    assert right(checkpoint.read(file, "key"))
    for number in range(150):
        file.write_bytes(damaged(content, rng))
        attempt(str(number), lambda: checkpoint.read(file, "key"), right)
    plain = {name: getattr(state, name) for name in checkpoint.NUMBERS}
    for number in range(100):
        checkpoint.write(file, "key", checkpoint.State(**{**plain, **crafted(plain, rng)}, weights=[np.ones(3)]))
        attempt(f"crafted {number}", lambda: checkpoint.read(file, "key"), _has_its_types)


def _has_its_types(found: checkpoint.State | None) -> bool:
    if found is None:
        return True
    whole = all(type(getattr(found, name)) is int for name in ("stage", "epoch", "step", "epochs"))
    lists = (found.losses, found.losses_of_best, found.losses_of_probe)
    return whole and all(isinstance(value, int | float) for part in lists for value in part) and len(found.stages) == 2
