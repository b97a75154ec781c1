"""The workflow against that of ramp-workflow: the same batches, and no image made twice."""

from __future__ import annotations

import importlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import rampwf
from PIL import Image
from skimage.io import imread
from submissions import IDENTITY, MIRRORED, RESIZED

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, BadImage
from layertap.ramp import ImageClassifier
from layertap.ramp.images import read_image
from layertap.ramp.transforms.code_loading import BadSubmission
from layertap.ramp.transforms.identity import Transform, load_transforms
from layertap.ramp.transforms.workers import TransformWorkers

Submission = Callable[..., Path]
GRAY, COLOUR = ([f"{kind} {number}.png" for number in range(14)] for kind in ("gray", "cölor"))
CLASSES = np.arange(14) % 3


def noted(workflow: Any, module: Path, folder: Path, ids: list[str]) -> tuple[list[Any], np.ndarray]:
    """What a submission that notes its batches saw, and what came out."""
    X = (str(folder), np.array(ids, dtype=object))
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    trained = workflow.train_submission(str(module), X, CLASSES, np.arange(13))
    said = workflow.test_submission(trained, X)
    return list(type(trained[2])._note.__globals__["SEEN"]), said


@pytest.mark.parametrize("ids", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize(
    "preprocessor", [IDENTITY, RESIZED, MIRRORED, "def transform(x):\n    return x.astype('int64')\n"]
)
@pytest.mark.parametrize("chunk", [4, 256])
def test_a_submission_gets_the_same_batches(
    submission: Submission, pictures: Path, tmp_path: Path, preprocessor: str, ids: list[str], chunk: int
):
    module, options = submission(preprocessor), {"test_batch_size": 3, "chunk_size": chunk, "n_jobs": 2, "n_classes": 3}
    expected, probabilities = noted(rampwf.workflows.ImageClassifier(**options), module, pictures, ids)
    ours = ImageClassifier(**options, cache=tmp_path / "cache")
    for _ in range(2):  # the second time from the cache
        seen, said = noted(ours, module, pictures, ids)
        assert seen == expected
        np.testing.assert_array_equal(said, probabilities)
        assert said.dtype == probabilities.dtype


@pytest.mark.slow
def test_the_same_batches_from_worker_processes(
    submission: Submission, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("layertap.ramp.transforms.transform_pool.SLOW_SECONDS", -1.0)
    applied: list[int] = []
    apply = TransformWorkers.apply
    monkeypatch.setattr(TransformWorkers, "apply", lambda self, paths: applied.append(len(paths)) or apply(self, paths))
    module = submission(RESIZED + "\n\nprint('loaded')\n")
    options = {"test_batch_size": 3, "chunk_size": 4, "n_jobs": 2, "n_classes": 3}
    expected, probabilities = noted(rampwf.workflows.ImageClassifier(**options), module, pictures, COLOUR)
    seen, said = noted(ImageClassifier(**options, cache=tmp_path / "cache", workers=2), module, pictures, COLOUR)
    assert seen == expected
    np.testing.assert_array_equal(said, probabilities)
    assert sum(applied) == 14  # each once


# Transforms whose names and code objects are one another's, or that remember what came before.
LAMBDAS = "transform = lambda x: x / 255\ntransform_test = lambda x: x / 127\n"
MADE = """
def make(scale):
    def inner(x):
        return x / scale
    return inner


transform = make(255)
transform_test = make(127)
"""
DECORATED = """
import numpy as np


@np.errstate(divide='ignore')
def transform(x):
    return x[:5] / 100
"""
COUNTER = "n = [0]\n\n\ndef transform(x):\n    n[0] += 1\n    return x + n[0]\n"
SCRATCH = """
import numpy as np

SCRATCH = np.zeros((9, 7))


def transform(x):
    SCRATCH[...] = x
    for _ in range(50):
        SCRATCH[...] = np.sqrt(SCRATCH)
        SCRATCH[...] = SCRATCH**2
    return SCRATCH.copy()
"""


BOOLEAN = "def transform(x):\n    return x > 9\n"
ALSO_DECORATED = "import numpy as np\n\n\n@np.errstate()\ndef transform(x):\n    return x * 1.0\n"


@pytest.mark.parametrize("preprocessor", [LAMBDAS, MADE, DECORATED, COUNTER, SCRATCH, BOOLEAN])
def test_a_submission_gets_the_same_batches_whatever_its_transforms_are_made_of(
    submission: Submission, pictures: Path, tmp_path: Path, preprocessor: str
):
    options = {"test_batch_size": 3, "chunk_size": 4, "n_jobs": 2, "n_classes": 3}
    ours = ImageClassifier(**options, cache=tmp_path / "cache")
    noted(ours, submission(ALSO_DECORATED), pictures, GRAY)
    module = submission(preprocessor, name="other")
    expected, probabilities = noted(rampwf.workflows.ImageClassifier(**options), module, pictures, GRAY)
    for _ in range(2):
        seen, said = noted(ours, module, pictures, GRAY)
        assert seen == expected
        np.testing.assert_array_equal(said, probabilities)


def test_a_preprocessor_that_is_edited_meanwhile_changes_nothing(
    submission: Submission, pictures: Path, tmp_path: Path
):
    workflow = ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache")
    module, X = submission("def transform(x):\n    return x / 255\n"), (str(pictures), np.array(GRAY, dtype=object))
    trained = workflow.train_submission(str(module), X, CLASSES, np.arange(5))
    submission("def transform(x):\n    return x / 100\n")
    before = workflow.test_submission(trained, X)
    changed = workflow.test_submission(workflow.train_submission(str(module), X, CLASSES, np.arange(5)), X)
    np.testing.assert_allclose(changed[:, 0], before[:, 0] * 2.55)


def test_a_helper_that_changes_makes_other_images(
    submission: Submission, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    helpers = tmp_path / "external_imports"
    helpers.mkdir()
    monkeypatch.syspath_prepend(helpers)
    workflow = ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache")
    module = submission("from scaling import SCALE\n\n\ndef transform(x):\n    return x / SCALE\n")
    said = []
    for text in ("from factor import SCALE\n", "from factor import SCALE\nSCALE = 2 * SCALE\n"):
        (helpers / "scaling.py").write_text(text)
        (helpers / "factor.py").write_text("SCALE = 255\n")
        for name in ("scaling", "factor"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        shutil.rmtree(helpers / "__pycache__", ignore_errors=True)
        said.append(noted(workflow, module, pictures, GRAY)[1])
    np.testing.assert_allclose(said[0], said[1] * 2)
    digests = []
    for scale in (255, 254):  # of a helper's helper
        (helpers / "factor.py").write_text(f"SCALE = {scale}\n")
        digests.append(Transform(load_transforms(module / "image_preprocessor.py")[0]).digest)
    assert digests[0] != digests[1]


def test_gray_and_coloured_images_are_both_kept(submission: Submission, pictures: Path, tmp_path: Path):
    log = tmp_path / "log"
    log.touch()
    workflow, module = ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache"), submission(counting(log))
    for ids in (GRAY, COLOUR):
        noted(workflow, module, pictures, ids)
    made = len(log.read_text())
    for ids in (COLOUR, GRAY):
        noted(workflow, module, pictures, ids)
    assert len(log.read_text()) == made


def test_a_classifier_may_draw_batches_when_it_predicts(submission: Submission, pictures: Path, tmp_path: Path):
    keeping = """
import numpy as np


class BatchClassifier:
    def fit(self, gen_builder):
        self.builder = gen_builder
        assert gen_builder.transform_img is not None and gen_builder.n_jobs == 2
        next(gen_builder.get_train_valid_generators(batch_size=5)[0])  # and no more

    def predict_proba(self, X):
        X, y = next(self.builder.get_train_valid_generators(batch_size=5)[0])
        return np.full((3, 3), X.mean())
"""
    X = (str(pictures), np.array(GRAY[:3], dtype=object))
    for flow in (ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache"), rampwf.workflows.ImageClassifier(3, 4, 2, 3)):
        trained = flow.train_submission(str(submission(classifier=keeping)), X, CLASSES[:3])
        copy = cloudpickle.loads(cloudpickle.dumps(trained))
        assert flow.test_submission(trained, X)[0, 0] == flow.test_submission(copy, X)[0, 0] > 0


def counting(log: Path) -> str:
    write = f"with __builtins__['open']({str(log)!r}, 'a') as f:\n        f.write('.')"
    return f"def transform(x):\n    {write}\n    return x / 2\n"


def test_no_image_is_transformed_twice_in_epochs_folds_and_submissions(
    submission: Submission, pictures: Path, tmp_path: Path
):
    log = tmp_path / "log"
    log.touch()
    workflow = ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache")
    one, other = (submission(counting(log), name=name) for name in ("one", "other"))
    noted(workflow, one, pictures, GRAY)
    first = len(log.read_text())
    assert first - 14 <= 2 * 16  # those that were tried twice
    noted(workflow, one, pictures, GRAY)
    noted(workflow, other, pictures, GRAY)
    assert len(log.read_text()) == first
    changed = submission(counting(log).replace("x / 2", "x / 4"), name="other")
    noted(workflow, changed, pictures, GRAY)
    assert len(log.read_text()) > first


def test_a_changed_image_is_made_again(submission: Submission, tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(14):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(folder / f"{number}.png")
    ids = [f"{number}.png" for number in range(14)]
    workflow, module = ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache"), submission()
    _, before = noted(workflow, module, folder, ids)
    Image.fromarray(np.full((4, 4), 200, np.uint8)).save(folder / "5.png")
    _, after = noted(workflow, module, folder, ids)
    assert after[5, 0] == 200
    np.testing.assert_array_equal(np.delete(after, 5, 0), np.delete(before, 5, 0))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *((mode, "jpeg") for mode in ("L", "RGB", "CMYK")),
        *(("L", kind) for kind in ("bmp", "gif", "tiff", "webp")),
        ("RGB", "bmp"),
    ],
)
def test_images_are_read_as_by_scikit_image(tmp_path: Path, mode: str, kind: str):
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (9, 8), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (9, 8, 4), np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, which scikit-image ignores
    image.save(tmp_path / "one", format=kind, **({"exif": exif} if kind == "jpeg" else {}))
    ours, expected = read_image(str(tmp_path / "one")), imread(tmp_path / "one")
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected)
    assert ours.flags.writeable


# Draws without a name that tells, and changes nothing.
HIDDEN = """
import numpy as np

draw = getattr(np, 'ran' + 'dom').uniform


def transform(x):
    draw()
    return x
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (IDENTITY, False),
        (RESIZED, False),
        (MIRRORED, True),
        ("import random\n\n\ndef transform(x):\n    return x\n", True),  # it names it
        ("is_random = False\nfrom random import Random\n\n\ndef transform(x):\n    return x\n", False),
        ("is_random = True\n\n\ndef transform(x):\n    return x\n", True),
        ("n = [0]\n\n\ndef transform(x):\n    n[0] += 1\n    return x + n[0]\n", True),
        ("import os\n\n\ndef transform(x):\n    return x ^ os.getpid().__class__(os.urandom(1)[0])\n", True),
        (HIDDEN, True),
    ],
)
def test_whether_a_transform_draws_random_numbers(tmp_path: Path, source: str, expected: bool):
    file = tmp_path / "image_preprocessor.py"
    file.write_text(source)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    images = [np.arange(12, dtype=np.uint8).reshape(3, 4)] * 3
    assert Transform(load_transforms(file)[0]).is_random(images) == expected
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_nothing_is_kept_of_a_random_transform(submission: Submission, pictures: Path, tmp_path: Path):
    cache = FeatureCache(tmp_path / "cache")
    noted(ImageClassifier(3, 4, 2, 3, cache=cache.root), submission("is_random = True\n" + IDENTITY), pictures, GRAY)
    assert cache.spaces() == []
    noted(ImageClassifier(3, 4, 2, 3, cache=cache.root), submission(), pictures, GRAY)
    assert len(cache.spaces()) == 1


def test_training_goes_on_where_nothing_can_be_written(submission: Submission, pictures: Path, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    module, options = submission(), {"test_batch_size": 3, "chunk_size": 4, "n_jobs": 2, "n_classes": 3}
    expected, _ = noted(rampwf.workflows.ImageClassifier(**options), module, pictures, GRAY)
    with pytest.warns(UserWarning, match="kept in memory only"):
        seen, _ = noted(ImageClassifier(**options, cache=tmp_path / "file" / "cache"), module, pictures, GRAY)
    assert seen == expected


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["../secret.png"], r"'../secret.png' leads out of"),
        (["/etc/passwd"], r"'/etc/passwd' leads out of"),
        (["none.png"], r"none\.png"),
        (["broken.png"], r"broken\.png"),
    ],
)
@pytest.mark.parametrize("preprocessor", [IDENTITY, MIRRORED])
def test_images_that_cannot_be_had_are_told(
    submission: Submission, tmp_path: Path, ids: list[str], message: str, preprocessor: str
):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "good.png")
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:20])
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "secret.png")
    with pytest.raises((BadData, BadImage), match=message):
        noted(ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache"), submission(preprocessor), folder, ids * 14)


def test_images_of_several_shapes_are_told(submission: Submission, pictures: Path, tmp_path: Path):
    cropping = "def transform(x):\n    return x[: int(x[0, 0]) % 5 + 1]\n"
    workflow = ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache")
    with pytest.raises(BadSubmission, match=r"preprocessor\.py:1: transform leaves .* shapes \(\d, 7\), \(\d, 7\)"):
        noted(workflow, submission(cropping), pictures, GRAY)
    module = submission(IDENTITY + cropping.replace("transform", "transform_test"), name="other")
    with pytest.raises(BadSubmission, match=r"other/image_preprocessor\.py:3: transform_test leaves .* shapes"):
        noted(workflow, module, pictures, GRAY)


def test_what_a_worker_process_cannot_send_is_told(
    submission: Submission, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("layertap.ramp.transforms.transform_pool.SLOW_SECONDS", -1.0)
    module = submission("is_random = False\n\n\ndef transform(x):\n    pass\n")
    with pytest.raises(BadSubmission, match=r"preprocessor\.py:4: transform leaves something that is no array"):
        noted(ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache", workers=2), module, pictures, GRAY)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("None", "None"),
        ("0.5", "0.5"),
        ("[['a', 'b', 'c']] * len(X)", "values of str"),
        ("[[0.5], [0.5, 0.5], [None]]", "values of object"),
        ("np.full((len(X), 3), 0.5, object)", "values of object"),
    ],
)
def test_predictions_that_are_no_numbers_are_told(
    submission: Submission, pictures: Path, tmp_path: Path, said: str, told: str
):
    fitting = "import numpy as np\n\n\nclass BatchClassifier:\n    def fit(self, gen_builder):\n        pass\n\n"
    classifier = f"{fitting}    def predict_proba(self, X):\n        return {said}\n"
    expected = rf"batch_classifier\.py:8: predict_proba gives {told}, not an array of numbers"
    with pytest.raises(BadSubmission, match=expected):
        noted(ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache"), submission(IDENTITY, classifier), pictures, GRAY)


@pytest.mark.parametrize("workers", [None, 2])
def test_an_error_of_a_transform_says_where(
    submission: Submission, pictures: Path, tmp_path: Path, workers: int | None, monkeypatch: pytest.MonkeyPatch
):
    if workers:
        monkeypatch.setattr("layertap.ramp.transforms.transform_pool.SLOW_SECONDS", -1.0)
    body = "    if x[0, 0] % 2:\n        raise KeyError('odd')\n    return x\n"
    module = submission(f"is_random = False\n\n\ndef transform(x):\n{body}")
    with pytest.raises(BadSubmission, match=r"image_preprocessor\.py:6: KeyError: 'odd'"):
        noted(ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache", workers=workers), module, pictures, GRAY)


def test_forbidden_words_are_refused_as_by_ramp_workflow(submission: Submission, pictures: Path, tmp_path: Path):
    module = submission(IDENTITY + "import shutil\n")
    with pytest.raises(RuntimeError, match="forbidden key word"):
        noted(ImageClassifier(3, 4, 2, 3, cache=tmp_path / "cache"), module, pictures, GRAY)


@pytest.mark.slow
def test_a_script_without_a_main_guard_can_use_processes(submission: Submission, pictures: Path, tmp_path: Path):
    module = submission(RESIZED)
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import numpy as np
from layertap.ramp import ImageClassifier; from layertap.ramp.transforms import transform_pool
transform_pool.SLOW_SECONDS = -1.0
ids = np.array({GRAY!r}, dtype=object)
flow = ImageClassifier(3, 4, 2, 3, cache={str(tmp_path / "cache")!r}, workers=2)
trained = flow.train_submission({str(module)!r}, ({str(pictures)!r}, ids), np.arange(14) % 3)
print(flow.test_submission(trained, ({str(pictures)!r}, ids)).shape)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[-2] == "(14, 3)", done.stderr
