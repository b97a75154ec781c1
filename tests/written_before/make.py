"""Write the files of this folder with the version of Layertap that is imported, and record what it prints about them.

    cd THE_CHECKOUT_OF_THAT_VERSION && PYTHONPATH=. python THIS_FILE OUT

`OUT` becomes a folder like this one. README.md says which version wrote what is kept here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import cli

HERE = Path(__file__).resolve().parent
TABLE, NEW = "digits/table.csv", "new"
CLASSES = "zero", "one", "two"
PER_CLASS, NEW_PER_CLASS = 8, 1
FOLDER, HOST = "@FOLDER@", "@HOST@"  # what stands for the absolute path of the folder, and for the name of the machine
VALID = ("--valid", "0.3")
LAYERS = ("--layer", "block2_pool", "--layer", "block4_pool")
BLOCK4 = ("--layer", "block4_pool")
VIEWS = ("--layer", "block2_pool", "--views", "2", "--augment", "shift=0.1")
TINY = ("--net", "tiny.keras", "--preprocessing", "unit")
# What the runs are trained with, by their names.
RUNS: dict[str, tuple[str, ...]] = {
    "ridge": (*BLOCK4, "--head", "ridge", "--test", "0.2", *VALID),
    "linear": (*BLOCK4, "--head", "linear", *VALID),
    "logistic": (*LAYERS, "--head", "logistic", "--calibrate", *VALID),
    "joined": (*LAYERS, "--join", "--head", "ridge", *VALID),
    "linear-svm": (*BLOCK4, "--head", "linear-svm", *VALID),
    "lda": (*BLOCK4, "--head", "lda", *VALID),
    "prototypes": (*BLOCK4, "--head", "prototypes", *VALID),
    "svc": (*BLOCK4, "--head", "sklearn.svm:SVC", "--param", "C=10", "--param", "pca=8", *VALID),
    "own": (*BLOCK4, "--head", "own_head.py:make_head", *VALID),
    "mlp": (*BLOCK4, "--head", "mlp", "--param", "hidden=8", "--param", "epochs=20", *VALID),
    "views": (*VIEWS, "--average-views", "--head", "ridge", *VALID),
    "numbers": (*BLOCK4, "--regression", "ink,width", "--head", "svm-rbf", "--param", "pca=8", *VALID),
    "numbers-ridge": (*BLOCK4, "--regression", "ink", *VALID),
    "labels": (*BLOCK4, "--multilabel", "labels", "--head", "prototypes", *VALID),
    "tiny": (*TINY, "--head", "linear", *VALID),
}
TUNING = ("--from-head", "runs/tiny", "--unfreeze-from", "conv3", "--epochs", "3", "--learning-rate", "0.01", *VALID)
SWEEP = (*LAYERS, "--head", "ridge", "--head", "knn", "--jobs", "1", *VALID, "--out", "sweep")
SUBMISSIONS = {
    "heads": (*BLOCK4, "--head", "prototypes"),
    "tuned": ("--net", "tiny.keras", "--preprocessing", "unit", "--fine-tune", "--unfreeze-from", "conv3"),
}
KERAS = ("--to", "keras", "--out")
EXPORTED = "ridge", "mlp", "prototypes", "tuned"
FULL = "glyphnet-block4_pool-avg-974dc601"  # the features that most runs read
PRUNED = (), (FULL,), (FULL, "--cited"), ("--max-size", "1kB")
OWN_CODE = ("--head-code", "own_head.py:make_head")


def write_images(folder: Path) -> None:
    """Write handwritten digits as PNG files: a table of them with classes, numbers and labels, and some more."""
    digits = load_digits()
    (folder / "digits" / "imgs").mkdir(parents=True)
    lines = ["id,class,ink,width,labels"]
    for value, name in enumerate(CLASSES):
        images = digits.images[digits.target == value][: PER_CLASS + NEW_PER_CLASS]
        for number, image in enumerate(images):
            picture = Image.fromarray(np.minimum(image * 16, 255).astype(np.uint8)).resize((16, 16))
            if number >= PER_CLASS:
                (folder / NEW / name).mkdir(parents=True, exist_ok=True)
                picture.save(folder / NEW / name / f"{number}.png")
                continue
            picture.save(folder / "digits" / "imgs" / f"{name}-{number}.png")
            labels = ["round"] * (value != 1) + ["dark"] * bool(image.mean() > 5)
            width = int((image.max(axis=0) > 4).sum())
            lines.append(f"{name}-{number}.png,{name},{image.mean():.3f},{width},{';'.join(labels)}")
    (folder / TABLE).write_text("\n".join(lines) + "\n")


def write_net(file: Path) -> None:
    """Write a net of three small convolutions, as a user may have one of their own."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            *(layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name=f"conv{n}") for n in (1, 2, 3)),
            layers.GlobalAveragePooling2D(name="pool"),
        ],
        name="tiny",
    ).save(file)


def run(*arguments: str) -> str:
    """What a command prints on stdout; it runs in this process, and has to succeed."""
    print("layertap", *arguments, file=sys.stderr)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        terminal = os.dup(1)
        os.dup2(stream.fileno(), 1)
        try:
            status = cli.main(list(arguments))
        finally:
            sys.stdout.flush()
            os.dup2(terminal, 1)
            os.close(terminal)
        assert not status, status
        stream.seek(0)
        return stream.read()


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def space_of(part: str) -> str:
    """The name of the one space of the cache that holds `part`."""
    [name] = [name for name in names("features") if part in name]
    return name


def build() -> None:
    """Fill the cache, and train the runs."""
    write_images(Path())
    write_net(Path("tiny.keras"))
    for features in (LAYERS, (*BLOCK4, "--dtype", "float16", "--compress"), VIEWS, TINY):
        run("extract", TABLE, *features)
    for kind in (("int8",), ("pca", "--components", "8")):
        run("cache", "shrink", FULL, "--to", *kind)
    for name, options in RUNS.items():
        run("train-head", TABLE, *options, "--out", f"runs/{name}")
    run("train-head", TABLE, "--space", space_of("-int8-"), "--head", "ridge", *VALID, "--out", "runs/int8")
    run("fine-tune", TABLE, *TUNING, "--out", "runs/tuned")
    run("evaluate", "runs/tuned", TABLE)  # which extracts the features of the net that was tuned
    run("sweep", TABLE, *SWEEP)
    run("ramp", "kit", "kit", "--data", TABLE, "--test", "0.25")
    for name, options in SUBMISSIONS.items():
        run("ramp", "init", "kit", "--name", name, *options)
        run("ramp", "test", "kit", "--submission", name)


def record(out: Path) -> dict[str, list[Any]]:
    """What commands print about copies of the files in `out`, by how test_written_before.py compares it."""
    of_runs = []
    for name in names("runs"):
        code = OWN_CODE if name == "own" else ()
        of_runs += [(verb, f"runs/{name}", TABLE, *code, "--json") for verb in ("evaluate", "predict")]
    spaces = [name for name in names("features") if "-" in name]
    reads = [
        *of_runs,
        ("predict", "runs/ridge", TABLE),
        ("predict", "runs/labels", TABLE),
        ("extract", TABLE, *LAYERS, "--json"),
        ("extract", TABLE, *LAYERS, "--plan", "--json"),
        ("extract", TABLE, "--space", space_of("-pca8-"), "--json"),
        ("extract", TABLE, *VIEWS, "--json"),
        ("cache", "list", "--json"),
        *(("cache", "info", name, "--json") for name in spaces),
        ("cache", "verify", "--json"),
        *(("cache", "prune", *options, "--json") for options in PRUNED),
        ("sweep", TABLE, *SWEEP, "--json"),
        ("ramp", "leaderboard", "kit", "--json"),
    ]
    rows = [("cache", "export", name, "--out", f"{name}.npz", "--json") for name in spaces]
    exports = [("export", f"runs/{name}", TABLE, *KERAS, f"{name}.keras", "--json") for name in EXPORTED]
    prunes = [("cache", "prune", *options, "--yes", "--json") for options in PRUNED]
    computes = [
        ("evaluate", "runs/ridge", "new", "--json"),
        ("predict", "runs/views", "new", "--json"),
        ("predict", "runs/tuned", "new", "--json"),
        *(("ramp", "test", "kit", "--submission", name, "--json") for name in SUBMISSIONS),
    ]
    with copy_of(out):
        recorded: dict[str, list[Any]] = {
            "reads": [(words, printed(*words)) for words in reads],
            "rows": [(words, printed(*words), arrays(words[-2])) for words in rows],
            "exports": [(words, printed(*words), probabilities(words[-2])) for words in exports],
        }
    for kind, commands in (("prunes", prunes), ("computes", computes)):
        recorded[kind] = []
        for words in commands:  # each changes what is there
            with copy_of(out):
                recorded[kind].append((words, printed(*words), names("features")))
    return recorded


@contextlib.contextmanager
def copy_of(out: Path) -> Iterator[None]:
    """Work in a copy of `out`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copytree(out, folder, dirs_exist_ok=True)
        for file in texts():
            file.write_text(file.read_text().replace(FOLDER, folder).replace(HOST, socket.gethostname()))
        yield


def printed(*words: str) -> Any:
    """What a command prints: the object, or the text."""
    text = run(*words).replace(str(Path.cwd()), FOLDER)
    return json.loads(text) if "--json" in words else text


def arrays(file: str) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """The dtype, the shape and the SHA-256 of each array in a file."""
    with np.load(file) as stored:
        return {
            name: (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
            for name, array in stored.items()
        }


def probabilities(model: str) -> list[list[float]]:
    """What an exported model gives for three images of noise."""
    import keras

    net = keras.saving.load_model(model)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *net.input_shape[1:]), np.uint8)
    return keras.ops.convert_to_numpy(net(pixels)).tolist()


def texts() -> list[Path]:
    """The files that name the folder or the machine."""
    return [*Path("features/.runs").iterdir(), *Path("kit").rglob("*.py")]


def tidy() -> None:
    """Drop what cannot be read anywhere else, and pictures, which no command reads; name no folder of this machine."""
    for pattern in ("runs/*/*.png", "runs/*/report.html", "sweep/*.png", "**/__pycache__"):
        for path in Path().glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree("runs/tiny")  # its config.json names a net by its absolute path
    for file in texts():
        text = file.read_text().replace(str(Path.cwd()), FOLDER)
        file.write_text(text.replace(f'"host": "{socket.gethostname()}"', f'"host": "{HOST}"'))


def main(out: Path) -> None:
    out.mkdir()
    shutil.copy(HERE / "project" / "own_head.py", out)
    os.chdir(out)
    build()
    tidy()
    lines = []
    for kind, entries in record(out).items():
        lines.append(f"{json.dumps(kind)}: [\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]")
    (out / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
