# %% [markdown]
# # Handwritten digits, as a RAMP challenge
#
# A [RAMP](https://paris-saclay-cds.github.io/ramp-docs/) gives you a *kit*: labelled images, a `problem.py` that says
# how you are scored, and a *submission* to start from. You are graded by the score and by the time that training and
# testing take. This is a walk through such a challenge with Layertap, from a first look at the images to the
# leaderboard.
#
# Run it with `python examples/mnist_ramp.py`, or cell by cell. It makes a kit of scikit-learn's 1,797 digits of 8 x 8,
# and takes two to three minutes on two cores. With `--kit KIT` it uses a kit that you have, such as that of MNIST,
# which takes the longer the more images there are. It needs `pip install '.[tensorflow,ramp]'`. What it writes is in
# `./mnist_ramp`, or `--work DIR`.

# %%
import argparse
import builtins
import html
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from feature_cache import FeatureCache
from heads import make_head
from heads.evaluation.cross_validation import evaluate
from heads.evaluation.protocol import Protocol
from layertap.commands.terminal.output import print_table
from transfer.data.datasets import load
from transfer.data.tables import kit_file
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

NOTEBOOK = hasattr(builtins, "__IPYTHON__")
PROGRAMS = {"layertap": "cli", "ramp-test": "rampwf.utils.cli.testing"}

parser = argparse.ArgumentParser(description="Handwritten digits, as a RAMP challenge.")
parser.add_argument("--kit", type=Path, help="folder of a RAMP kit (default: one is made of digits)")
parser.add_argument("--work", type=Path, default=Path("mnist_ramp"), help="folder to write (default: mnist_ramp)")
args = parser.parse_args([] if NOTEBOOK else None)  # in a notebook, change the defaults above
given = args.kit.resolve() if args.kit else None
if given and kit_file(given) is None:
    sys.exit(f"{given} is no RAMP kit: one has problem.py and data/train.csv.")
try:
    args.work.mkdir(parents=True)
except FileExistsError:
    sys.exit(
        f"{args.work} is there already, and what it caches would spoil the times; name another folder with --work."
    )
os.chdir(args.work)


def shell(command, folder=".", cache="features", log=None, but=()):
    """Run a command, and show it and what it prints; the output of a long one goes to the file `log` instead.

    One that fails ends the tutorial, unless its status is in `but`.
    """
    program, *arguments = shlex.split(command)
    environment = {**os.environ, "LAYERTAP_CACHE": str(Path(cache).resolve()), "TERM": "dumb"}  # no colours
    print(f"\n$ {command}", flush=True)
    done = subprocess.run(
        [sys.executable, "-P", "-m", PROGRAMS[program], *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    if log:
        Path(log).write_text(done.stdout, encoding="utf-8")
    if done.returncode and done.returncode not in but:
        sys.exit(done.stdout)
    if not log:
        print(done.stdout.strip(), flush=True)


def show(picture):
    """The picture in a notebook, and otherwise where it is."""
    if NOTEBOOK:
        from IPython.display import Image, display

        display(Image(picture))
    else:
        print(f"Picture: {Path(picture).resolve()}")


def show_page(file):
    """The page, which needs nothing beside it, inside a notebook, and otherwise where it is."""
    if NOTEBOOK:
        from IPython.display import HTML, display

        page = html.escape(Path(file).read_text(encoding="utf-8"))
        display(HTML(f'<iframe srcdoc="{page}" title="{Path(file).name}" width="100%" height="700"></iframe>'))
    else:
        print(f"Page: {Path(file).resolve()}")


# %% [markdown]
# ## 1. The kit
#
# `layertap ramp kit` makes one of any labelled images: it sets a fifth aside for the test, by class and with copies of
# an image on one side, and writes `problem.py` and a small convolutional net as the submission `starting_kit`.
#
# A kit that you have is known by its `problem.py`, and its images by `data/train.csv` and `data/test.csv`, which name
# files of `data/imgs`. Its data are linked to, and all else is copied.

# %%
if given:
    shutil.copytree(given, "kit", ignore=shutil.ignore_patterns("data", "training_output"))
    Path("kit/data").symlink_to(given / "data")
else:
    shell("layertap ramp kit kit --data digits")

# %% [markdown]
# ## 2. A first look
#
# Are the classes balanced, the images of one shape, the labels right? Is an image of the test set among those to train
# on? `explore` counts, looks for copies, and draws the images, also at the resolutions that a net may be given, and
# turned. The pairs that it proposes as near-duplicates are worth a look: of images as small as 8 x 8, two strokes of a
# pen can be as alike as that without being copies. What turns a 6 into a 9 is no augmentation for digits.

# %%
shell("layertap explore kit --size 32 --out explore --quiet", but=[2])  # where no image can be read
summary = Path("explore/explore.json")
found = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else None  # None where no image was found
if found is None or found["unreadable"]:
    readable = 0 if found is None else found["readable"]
    sys.exit(
        f"{readable} images of the kit can be read. The others belong in its folder data/imgs; kits that come without "
        "them say in their README.md how to get them."
    )
show_page("explore/report.html")

# %% [markdown]
# ## 3. Preprocessing: which resolution, and which fit?
#
# More pixels take more time. Do they pay? `glyphnet`, the small net that comes with Layertap and has seen letters but
# no digits, is given the images at four resolutions. A ridge classifier on one of its layers is judged by 5-fold
# cross-validation of the images to train on; the test images wait for the referee. A few images go first, so that
# loading the net is not timed.
#
# `fit` says what becomes of an image that is not as wide as high: `stretch` changes its proportions, `crop` cuts it,
# `pad` adds gray bars. Of square images, such as digits, all three make the same pixels, so that their scores must
# agree.

# %%
train, cache = load("kit"), FeatureCache(Path("features"))
rows = []
for side, fit in ((16, "stretch"), (24, "stretch"), (32, "stretch"), (48, "stretch"), (32, "crop"), (32, "pad")):
    request = FeatureRequest(Net("glyphnet"), ("block3_pool",), "flatten", (side, side), fit=fit)
    extract(train.select(np.arange(32)), request, cache)
    speed = extract(train, request, cache).images_per_second
    features = stored_features(train, request, cache)
    splits = Protocol(cv=5).splits(train.labels, features.groups)
    scores = evaluate(features.features, train.labels, features.groups, splits, lambda: make_head("ridge", {}))
    valid = scores.summary()["valid"]
    accuracy = f"{valid['accuracy']['mean']:.4f} ± {valid['accuracy']['std']:.4f}"
    seconds = f"{valid['fit_seconds']['mean']:.2f}"
    rows.append((f"{side} x {side}", fit, accuracy, f"{valid['nll']['mean']:.4f}", f"{speed:,.0f}", seconds))
print_table(("size", "fit", "accuracy", "log-loss", "images/s", "head, s"), rows, left=(0, 1))

# %% [markdown]
# What differs by less than the deviation over the folds may be chance. On `digits` all resolutions do as well, as an
# image of 8 x 8 has no more to show. The net's own 32 x 32 is kept in what follows.

# %% [markdown]
# ## 4. Frozen features: which layer, and which head?
#
# The features of each layer are computed once, and each head is fitted on them in about a second: `sweep` judges all
# combinations on the same five folds. Look at its last line, too: the best of many scores is too good to be true, and
# it says what to expect instead.

# %%
shell(
    "layertap sweep kit --layer block3_pool --layer block4_pool --pool flatten "
    "--head ridge --head logistic --head knn --extract --out layers --quiet"
)
pairs = json.loads(Path("layers/sweep.json").read_text(encoding="utf-8"))["pairs"]  # the best first
best = pairs[0]
linear = next(pair for pair in pairs if pair["head"] in ("ridge", "logistic"))
show("layers/sweep.png")

# %% [markdown]
# ## 5. Fine-tuning
#
# Now the last layers are trained as well, from the best linear head on. What comes before them is not computed again:
# its activations are read from the cache. A share of the images is held out to judge both the head and the tuned net.

# %%
shell(f"layertap train-head kit --layer {linear['features']} --pool flatten --head {linear['head']} --out head --quiet")
shell("layertap fine-tune kit --from-head head --out tuned --quiet")

# %% [markdown]
# ## 6. Submissions
#
# `ramp init` writes them: `frozen` is the best of the sweep, `readout` another head on the net's last layer averaged
# over the image, 256 numbers each, and `tuned` is fine-tuned.

# %%
shell(f"layertap ramp init kit --name frozen --layer {best['features']} --pool flatten --head {best['head']}")
shell("layertap ramp init kit --name readout --layer block4_pool --pool avg --head logistic")
head = f"--layer {linear['features']} --pool flatten --head {linear['head']}"
shell(f"layertap ramp init kit --name tuned {head} --fine-tune")

# %% [markdown]
# They are yours to change. `batch_classifier.py` names the layer and the head, and `image_preprocessor.py` makes of an
# image what the net sees:

# %%
written = Path("kit/submissions/frozen/image_preprocessor.py").read_text(encoding="utf-8")
print(written)

# %% [markdown]
# The submission `upright` is `frozen` with another `transform`: it shears each image until its ink no longer leans.
# Every change of the pixels is seen, and its features are computed anew; a change of the head costs the head alone.

# %%
UPRIGHT = '''

def upright(x):
    """Shear x, of shape (height, width, 3), so that the ink neither leans left nor right."""
    ink = x.mean(axis=2) + 1e-6  # a black image stays as it is
    rows, columns = np.indices(ink.shape)
    row, column = (np.average(places, weights=ink) for places in (rows, columns))
    slant = (ink * (rows - row) * (columns - column)).sum() / (ink * (rows - row) ** 2).sum()
    back = np.array([[1, slant, -slant * row], [0, 1, 0], [0, 0, 1]])
    return warp(x, back, preserve_range=True).round().astype(np.uint8)
'''
shutil.copytree("kit/submissions/frozen", "kit/submissions/upright")
changed = written.replace("from layertap", "import numpy as np\nfrom skimage.transform import warp\nfrom layertap")
changed = changed.replace("return fitted(x, SIZE)", "return upright(fitted(x, SIZE))")
Path("kit/submissions/upright/image_preprocessor.py").write_text(changed + UPRIGHT, encoding="utf-8")

# %% [markdown]
# ## 7. The referee
#
# `layertap ramp test` trains and scores submissions as `ramp-test` does, and ranks them. Each is given an empty cache
# here, so that none gains by what another has computed; together they would share one, and be faster. Only nets that
# were converted for OpenVINO are kept on your machine: the first use of a layer takes some seconds more. What the
# submissions print is in `referee`.

# %%
Path("referee").mkdir()
old = " --old-keras" if given else ""  # starting kits of before Keras 3 call what is no longer there
for name in ("starting_kit", "readout", "frozen", "upright", "tuned"):
    shell(f"layertap ramp test kit --submission {name}{old}", cache=f"caches/{name}", log=f"referee/{name}.txt")
shell("layertap ramp leaderboard kit")

# %% [markdown]
# RAMP's own `ramp-test` runs the same submission, with the same scores. This time its features are in the cache:
# compare the time of training with that of the leaderboard.

# %%
shell("ramp-test --submission frozen", folder="kit", cache="caches/frozen")

# %% [markdown]
# ## 8. What was learnt

# %%
shell("layertap ramp leaderboard kit --json", log="leaderboard.json")
ranked = json.loads(Path("leaderboard.json").read_text(encoding="utf-8"))
start = next(entry for entry in ranked["submissions"] if entry["name"] == "starting_kit")
rows = []
for entry in ranked["submissions"]:
    scores = [f"{part[name]:.4f}" for name in ranked["scores"][:2] for part in (entry["mean"], entry["test"])]
    faster = f"{start['train_seconds'] / entry['train_seconds']:.1f}"
    times = (f"{entry['train_seconds']:.1f}", f"{entry['test_seconds']:.1f}")
    rows.append((entry["name"], *scores, *times, faster))
titles = [f"{part} {name}" for name in ranked["scores"][:2] for part in ("valid", "test")]
print_table(("submission", *titles, "train, s", "test, s", "x faster"), rows)

# %% [markdown]
# On `digits`, heads on frozen features err less than half as often as the net that is trained from scratch, and in less
# time, that of computing the features included. Fine-tuning takes as long as training from scratch, and gains a little
# log-loss at most. Among each other they, the upright images and the tuned net differ by an image or two, which with
# some 300 images held out may be chance. To tell them apart, make the kit with `--folds 5`, and choose by the folds.
#
# The layer and the head of `frozen` and `tuned` were chosen with the `valid` images among others, which flatters those
# scores a little. The test images were used once, here: who chooses by them has no test any more.
