"""How a run is made again: one command line, and the same in Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from feature_cache.errors import LayertapError
from heads.parameters import parameters
from heads.registry import make_head, seeded
from layertap.flags import OTHER_NAMES
from layertap.report.tabs.curves import training_curves
from layertap.run_config import RunConfig
from transfer.data.augment import Augmentation
from transfer.finetune.recipe import Recipe
from transfer.nets.catalogue import NETS

OUT = "again"  # the folder of the run that is made again
MOST_LAYERS = 12  # that are listed
# What is computed and stored where nobody says otherwise, by the fields of a spec.
USUAL = {"alpha": "white", "pages": "first", "window": None, "precision": "float32", "dtype": "float32"}
NAMES = {"given": "splits"}  # keys of a protocol whose parameter has another name
REPEATED = ("layers", "beside")


def recipe_view(config: RunConfig, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What ``recipe.html`` shows: how the run is made again, and how its net was fine-tuned."""
    calls = _calls(config, metrics)
    return {
        "command": "" if calls is None else shlex.join(_command_line(*calls)),
        "python": [] if calls is None else _python(*calls),
        "tuned": _tuned(config.fine_tuned) if config.fine_tuned else [],
        "curves": training_curves(metrics["trainings"]) if metrics.get("trainings") else None,
    }


def _calls(
    config: RunConfig, metrics: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """The last function to call, and the arguments of loading, of extracting and of that one; None if it is unknown."""
    specs, nets = [spec for spec, _ in config.parts], [net for _, net in config.parts]
    tuned = config.fine_tuned
    net = tuned["net"] if tuned else nets[0]
    joined = len(specs) > 1
    same = all(other == nets[0] for other in nets) and len({spec.pooling for spec in specs}) == 1
    if not isinstance(net, dict) or (joined and not same):
        return None
    data = dict((config.data or {}).get("options") or {})
    layers = [spec.layer for spec in specs]
    if not joined and not tuned and len(config.candidates or ()) > 1:
        layers = list(config.candidates or ())
    protocol = {NAMES.get(name, name): value for name, value in (config.protocol or {}).items()}
    if "per_class" not in protocol:
        protocol.pop("draws", None)
    seed = protocol.pop("seed", 0)
    features = _features(config, net, seed)
    if features is None:
        return None
    if tuned:
        return "fine_tune", data, {**features, "layers": layers}, {**_tuning(tuned), **protocol, **_seed(seed)}
    try:
        head = _head(config, seed)
    except LayertapError:  # of a package that is not installed here, say
        return None
    curve = [point["per_class"] for point in metrics.get("curve", ())]
    more: dict[str, Any] = {"join": True} if joined else {}
    more |= {"average_views": True} if config.views and config.views.average else {}
    more |= {"curve": curve} if curve else {}
    return "train_head", data, {**features, "layers": layers}, {**head, **more, **protocol, **_seed(seed)}


def _seed(seed: int) -> dict[str, int]:
    return {"seed": seed} if seed else {}


def _features(config: RunConfig, net: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
    """The arguments of `layertap.extract`; None where one command cannot say them."""
    spec, info = config.parts[0].spec, NETS.get(str(net.get("name", "")).lower())
    wanted: dict[str, Any] = {"net": net.get("name")}
    wanted |= {name: net[name] for name in ("weights", "preprocessing") if net.get(name) is not None}
    if info is None or spec.pooling != info.pooling:
        wanted["pool"] = spec.pooling
    if info is None or tuple(spec.size) != (info.size, info.size):
        wanted["size"] = tuple(spec.size)
    wanted |= {name: getattr(spec, name) for name, usual in USUAL.items() if getattr(spec, name) != usual}
    usual = {"fit": "stretch", "interpolation": "bilinear"} if info else {"fit": "", "interpolation": ""}
    wanted |= {name: getattr(spec, name) for name, value in usual.items() if getattr(spec, name) != value}
    if spec.fit == "pad" and (info is None or spec.fill != "gray"):
        wanted["fill"] = spec.fill
    if spec.prefix_tokens is not None:
        wanted["prefix_tokens"] = spec.prefix_tokens
    if spec.transform is not None:
        wanted["transform"] = config.transforms.get(spec.transform, spec.transform)
    views, key = config.views.count if config.views else 1, spec.augmentation
    if config.fine_tuned:
        views, key = config.fine_tuned.get("views", 1), config.fine_tuned.get("augmentation")
    seeds = {seed}
    if key is not None:
        try:
            seeds.add(Augmentation.from_key(key).seed)
        except LayertapError:
            return None
        parts = [part for part in key.partition(":")[2].split(",") if not part.startswith("seed=")]
        wanted |= {"views": views, "augment": ",".join(parts)}
    if net.get("weights") == "none":
        seeds.add(net.get("seed", 0))
    random = key is not None or net.get("weights") == "none"
    return None if len(seeds) > 1 or spec.coding else {**wanted, **(_seed(seed) if random else {})}


def _head(config: RunConfig, seed: int) -> dict[str, Any]:
    """The arguments of `layertap.train_head` that say what is learned, and by which head."""
    task, head = config.task, config.head
    name = task.name if task else "classes"
    wanted: dict[str, Any] = {"head": head.name}
    if task and name in ("regression", "multilabel"):
        wanted[name] = list(task.columns)
    if task and name == "anomalies":
        wanted["normal"] = task.labels[0]
    grid: dict[str, list[Any]] = {}
    for choice in config.grid or ():
        for parameter, value in choice.items():
            grid.setdefault(parameter, []).extend([] if value in grid.get(parameter, ()) else [value])
    usual = {} if head.code else parameters(make_head(head.name, seeded(head.name, {}, seed, name), name))
    missing = object()
    params = {
        parameter: value
        for parameter, value in head.params.items()
        if parameter not in grid and not head.code and usual.get(parameter, missing) != value
    }
    return {**wanted, **({"params": params} if params else {}), **({"grid": grid} if grid else {})}


def _tuning(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `layertap.fine_tune` that say how the net is trained."""
    usual = Recipe().as_dict()
    recipe = {name: value for name, value in tuned["recipe"].items() if name != "seed" and usual.get(name) != value}
    trained = tuned.get("trained") or []
    return {**({"unfreeze_from": trained[0]} if trained else {}), **recipe}


def _tuned(tuned: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How a net was fine-tuned, in words."""
    recipe, trained = tuned["recipe"], tuned.get("trained") or []
    shown = ", ".join(trained[:MOST_LAYERS]) + (f", … ({len(trained):,} in all)" if len(trained) > MOST_LAYERS else "")
    rate, earliest = recipe["learning_rate"], recipe["earliest"]
    of_earliest = "" if earliest == 1 else f" for the classifier, {rate * earliest:.3g} for the earliest layer"
    return [
        ("Layers that were trained", shown or "all"),
        ("Frozen up to", ", ".join(tuned.get("cut") or []) or "nothing is frozen"),
        ("Epochs", f"{tuned['epochs']} of {recipe['epochs']} at most, chosen by images held out"),
        ("Highest learning rate", f"{rate:g}{of_earliest}"),
        ("Warm-up", f"{100 * recipe['warmup']:g} % of the steps"),
        ("Images in a step", f"{recipe['batch_size']:,}"),
        ("Weight decay of kernels", f"{recipe['weight_decay']:g}"),
        ("Largest norm of the gradients", f"{recipe['clip']:g}"),
        ("Label smoothing", f"{recipe['label_smoothing']:g}"),
        ("Rank of adapters (LoRA)", str(recipe.get("lora") or "none: kernels themselves")),
        ("Views of each image", str(tuned.get("views", 1))),
        ("Augmentation", str(tuned.get("augmentation") or "none").partition(":")[2] or "none"),
        ("Head that it started from", str((tuned.get("probe") or {}).get("name", "–"))),
    ]


def _python(verb: str, data: Mapping[str, Any], features: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The lines of a program that makes the run again."""
    source = data.get("source")
    loading = {name: tuple(data[name]) if name == "value_range" else data[name] for name in data if name != "source"}
    net, rest = features["net"], {name: value for name, value in features.items() if name != "net"}
    head = [] if verb == "fine_tune" else [repr(options["head"])]
    named = {name: value for name, value in options.items() if name != "head"}
    lines = ["import layertap as lt", ""]
    if source is None:
        lines.append("data = lt.load_dataset(...)  # the images, which were in memory, or part of a data set")
    else:
        lines.append(f"data = {_call('load_dataset', [repr(source)], loading)}")
    lines.append(f"features = {_call('extract', ['data', repr(net)], rest)}")
    lines.append(f"run = {_call(verb, ['data', 'features', *head], {**named, 'out': OUT})}")
    return [line for text in lines for line in text.split("\n")]


def _call(name: str, first: Sequence[str], named: Mapping[str, Any]) -> str:
    words = [*first, *(f"{key}={value!r}" for key, value in named.items())]
    line = f"lt.{name}({', '.join(words)})"
    return line if len(line) < 90 else f"lt.{name}(\n    " + ",\n    ".join(words) + ",\n)"


def corrected_command(config: RunConfig, metrics: Mapping[str, Any], corrections: str, out: str) -> list[str] | None:
    """The words of a command line that makes a run again with corrections, in the folder `out`; None if it is unknown.

    The data set is called ``DATA`` where it was in memory.
    """
    calls = _calls(config, metrics)
    if calls is None:
        return None
    verb, data, features, options = calls
    return _command_line(verb, {**data, "corrections": corrections}, features, options, out)


def _command_line(
    verb: str, data: Mapping[str, Any], features: Mapping[str, Any], options: Mapping[str, Any], out: str = OUT
) -> list[str]:
    """The words of a command line that makes the run again."""
    source = data.get("source", "DATA")
    words = ["layertap", verb.replace("_", "-"), source if isinstance(source, str) else "DATA"]
    for name, value in {**{key: data[key] for key in data if key != "source"}, **features, **options}.items():
        words += _words(name, value)
    return [*words, "--out", out]


def _words(name: str, value: Any) -> list[str]:
    """The words of one option."""
    flag = OTHER_NAMES.get(name, name).replace("_", "-")
    if name in ("params", "grid"):
        texts = {key: value[key] if name == "grid" else [value[key]] for key in value}
        pairs = [f"{key}={','.join(map(_text, each))}" for key, each in texts.items()]
        return [word for pair in pairs for word in (f"--{name.removesuffix('s')}", pair)]
    if name in REPEATED:
        return [word for each in value for word in (f"--{flag}", str(each))]
    if name == "refit":
        return [] if value else ["--no-refit"]
    if value is True:
        return [f"--{flag}"]
    if name == "size":
        return [f"--{flag}", f"{value[0]}x{value[1]}"]
    text = ",".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
