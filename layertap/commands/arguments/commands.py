"""All commands: their names, their arguments, what runs them, and the examples in their help."""

from __future__ import annotations

import argparse

import layertap
from layertap.commands.arguments import analysis, cache, fine_tune, heads, options, protocol, ramp, sweep, types
from layertap.commands.arguments.parser import Parser, add_command

Commands = argparse._SubParsersAction  # of Parser
DATA_SETS = (
    "DATA is digits (built in); a folder with a subfolder for each class, or one of images alone; a CSV file with "
    "columns id and class, whose images are beside it, in imgs/ or in --images; the folder of a RAMP kit; a .zip or "
    ".tar archive, or shards such as 'train-{00..09}.tar'; a .parquet file with images; the .json file of COCO or the "
    "data.yaml of YOLO; or arrays: an .npz file with X and y, an .npy file, or an IDX file such as "
    "train-images-idx3-ubyte.gz. All but arrays and boxes may be a URL: s3://BUCKET/FOLDER, https://HOST/FILE.zip. "
    "--split names a part of a data set that comes divided."
)

MAIN_PATH = """layertap extract photos                  # the features of a folder of photos, which are kept
layertap train-head photos --out run     # a head on them, with its scores
layertap predict run new-photos          # the classes of other photos

All commands: layertap --help; the options of one: layertap extract --help"""


def parser() -> Parser:
    """The parser of the whole command line."""
    top = Parser(
        prog="layertap",
        description="Cut a pretrained net at a layer, keep the activations of your images, train heads on them.",
        epilog=DATA_SETS,
    )
    top.examples = (
        ("train-head photos --net resnet50 --cv 5 --out run", "features of a folder of photos, and a head on them"),
        ("predict run new-photos", "the classes of other photos"),
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version, and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_looking(commands)
    _add_extract(commands)
    analysis.add_search(commands)
    analysis.add_compare(commands)
    analysis.add_drift(commands)
    _add_training(commands)
    _add_sweep(commands)
    _add_using(commands)
    _add_run(commands)
    analysis.add_map(commands)
    analysis.add_review(commands)
    cache.add(commands)
    ramp.add(commands)
    _add_completion(commands)
    return top


class _Version(argparse.Action):
    """Print the version, which is looked up only now: that takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"layertap {layertap.__version__}")
        parser.exit()


def _add_completion(commands: Commands[Parser]) -> None:
    text = "print a script that completes commands and options in a shell"
    sub = add_command(commands, "completion", "layertap.commands.completion:completion", text, json=False)
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
    sub.examples = (("completion bash > ~/.local/share/bash-completion/completions/layertap", "for bash, once"),)


def _add_run(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "run",
        "layertap.commands.run:run",
        "do the steps of a plan that are not done yet",
        examples=(
            ("run plan.yaml --dry-run", "which steps there are, and which are done"),
            ("run plan.yaml", "do the others; the same again goes on after an interruption"),
        ),
    )
    sub.add_argument("plan", metavar="PLAN", help="YAML file of commands with their options")
    sub.add_argument("--dry-run", action="store_true", help="list the steps and which of them are done, and stop")
    sub.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="FILE.py",
        help="file or module of yours that steps may run, as a net, head or transform; may be repeated",
    )
    options.add_trust(sub)


def _add_looking(commands: Commands[Parser]) -> None:
    sub = add_command(commands, "nets", "layertap.commands.nets:nets", "list the nets that are known by name")
    sub.add_argument("--hub", action="store_true", help="list the presets of KerasHub for images; nothing is fetched")
    sub = add_command(
        commands, "layers", "layertap.commands.nets:layers", "list the layers of a net, with their shapes and costs"
    )
    sub.add_argument(
        "net",
        metavar="NET",
        help="name of a net, its file (.keras, .h5, .onnx, .tflite, .xml), FILE.py:make_net, or a run",
    )
    sub.add_argument("--size", type=types.size, help="input size in pixels (default: the net's own)")
    options.add_trust(sub)
    sub = add_command(
        commands,
        "explore",
        "layertap.commands.explore:explore",
        "report what a data set holds: classes, shapes, copies, unreadable images",
        options.add_data,
        options.add_decoding,
        options.add_quiet,
        everyday="images split against out json",
        examples=(
            ("explore photos --out survey", "a page with pictures of the classes and of what looks wrong"),
            ("explore train --against test", "images that are in both data sets"),
        ),
        next_step="layertap train-head DATA --out RUN",
    )
    sub.add_argument(
        "--against",
        metavar="DATA2",
        help="report which images are in this data set too (default: data/test.csv of a RAMP kit)",
    )
    sub.add_argument(
        "--size",
        type=types.size,
        help="input size of a net, 64 or 48x64: images that are smaller are reported (default: 224)",
    )
    sub.add_argument(
        "--out",
        metavar="DIR",
        help="folder for report.html, which shows the images, and explore.json (default: print only)",
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing report")


def _add_extract(commands: Commands[Parser]) -> None:
    sub = add_command(
        commands,
        "extract",
        "layertap.commands.extract:extract",
        "compute the features that the cache lacks",
        options.add_data,
        options.add_features,
        options.add_cache,
        options.add_work,
        everyday="images split net layer pool size fit cache on_error plan json",
        examples=(
            ("extract photos --net resnet50", "features of ResNet50 at its usual layer"),
            ("extract photos --net vgg16 --layer block4_pool --layer block5_pool", "features of two layers"),
        ),
        next_step="layertap train-head DATA --net NET --out RUN",
    )
    sub.add_argument("--plan", action="store_true", help="show what is stored, what is missing and its cost, and stop")
    sub.add_argument(
        "--batch-size",
        type=types.positive,
        metavar="N",
        help="images in a batch (default: chosen by the size of the images)",
    )
    sub.add_argument(
        "--engine",
        choices=("auto", "keras", "openvino"),
        default="auto",
        help="what computes: the Keras backend, or OpenVINO on CPUs (default: auto, the faster of them)",
    )
    sub.add_argument(
        "--requantise",
        action="store_true",
        help="quantise the net for --precision int8 on these images, though the cache has a quantised one",
    )
    sub.add_argument(
        "--devices",
        type=types.positive,
        default=1,
        metavar="N",
        help="divide the work among N GPUs or, where there is none, N groups of cores (default: 1)",
    )
    sub.add_argument(
        "--shard",
        type=types.shard,
        metavar="I/N",
        help="compute part I of N alone, counted from 0 as by Slurm and Kubernetes: 0/8 to 7/8 on eight machines, into "
        "the same cache",
    )
    options.add_ray(sub)
    sub.add_argument("--compress", action="store_true", help="compress the stored features without loss")


def _add_training(commands: Commands[Parser]) -> None:
    add_command(
        commands,
        "train-head",
        "layertap.commands.train_head:train_head",
        "train a head on features, judge it, and save it as a run",
        options.add_data,
        options.add_features,
        heads.add_targets,
        heads.add_normal,
        heads.add_head,
        protocol.add,
        protocol.add_test,
        heads.add_run,
        options.add_cache,
        options.add_work,
        everyday="images net layer head param cv test out overwrite cache json",
        examples=(
            ("train-head photos --net resnet50 --cv 5 --out run", "5-fold cross-validation of the default head"),
            ("train-head digits --head ridge --test 0.2 --out run", "a ridge head, scored on images set aside"),
        ),
        next_step="layertap predict RUN IMAGE ..., or evaluate RUN DATA, or export RUN --to onnx --out FILE",
    )
    add_command(
        commands,
        "fine-tune",
        "layertap.commands.fine_tune:fine_tune",
        "train the last layers of a net, from stored outputs of the layers before them",
        options.add_data,
        options.add_one_layer,
        fine_tune.add,
        options.add_net_code,
        options.add_transform_code,
        options.add_cache,
        options.add_work,
        everyday="images net from_head unfreeze_from epochs learning_rate cv test out overwrite cache json",
        examples=(
            ("fine-tune photos --from-head run --out tuned", "start from the features and the head of a run"),
            ("fine-tune photos --net resnet50 --unfreeze-from conv5_block1_1_conv --out tuned", "name the first layer"),
        ),
        next_step="layertap evaluate RUN DATA, or export RUN --to keras --out model.keras",
    )


def _add_sweep(commands: Commands[Parser]) -> None:
    add_command(
        commands,
        "sweep",
        "layertap.commands.sweep:sweep",
        "judge many features with many heads on the same splits, and rank them",
        options.add_data,
        options.add_several_nets,
        sweep.add,
        options.add_cache,
        options.add_ray,
        options.add_work,
        everyday="images net layer pool extract head grid cv out cache json",
        examples=(
            ("sweep photos --net resnet50 --net vgg16 --cv 5 --out sweep", "two nets and three heads"),
            ("sweep digits --layer block3_pool --layer block4_pool --head knn --out sweep", "two layers and one head"),
        ),
        next_step="layertap train-head DATA with the best features and head",
    )


def _add_using(commands: Commands[Parser]) -> None:
    of_run = (options.add_run, *options.CODE_OF_RUNS)
    work = (options.add_cache, options.add_work)
    sub = add_command(
        commands,
        "evaluate",
        "layertap.commands.evaluate:evaluate",
        "score the head of a run on labelled images",
        *of_run,
        options.add_data,
        *work,
        everyday="page images split on_error cache json",
        examples=(
            ("evaluate run more-photos", "accuracy and log-loss on photos that the head has not seen"),
            ("evaluate run more-photos --page page.html", "with their mistakes, and how sure the run is, as a page"),
        ),
    )
    sub.add_argument("--page", metavar="FILE", help="write a page, an HTML file: what is mistaken, and how sure it is")
    sub = add_command(
        commands,
        "predict",
        "layertap.commands.predict:predict",
        "predict the classes of images with a run",
        *of_run,
        options.add_csv,
        *work,
        everyday="out on_error cache json",
        examples=(("predict run a.jpg b.jpg", "one line for each image"), ("predict run photos --out p.csv", "a file")),
    )
    sub.add_argument("image", nargs="+", metavar="IMAGE", help="image files, or one data set")
    sub.add_argument("--out", metavar="FILE", help="CSV file to write (default: print the table)")
    sub.add_argument(
        "--heat-maps", metavar="DIR", help="new folder for pictures of where images are anomalous, of a head patchcore"
    )
    sub = add_command(
        commands,
        "export",
        "layertap.commands.export:export",
        "write a run as one model, from pixels to probabilities",
        *of_run,
        everyday="to out overwrite json",
        examples=(("export run --to onnx --out model.onnx", "for ONNX Runtime"),),
    )
    options.add_optional_data(sub, "images on which the model is compared with the run (default: random ones)")
    sub.add_argument(
        "--to", required=True, choices=("keras", "onnx", "openvino", "saved-model"), help="format of the model"
    )
    sub.add_argument("--out", required=True, metavar="FILE", help="file to write, or folder for a saved model")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing model")
