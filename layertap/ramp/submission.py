"""Submissions to a RAMP that read Layertap's features: complete Python files, for their authors to change.

That of a starting kit is made by `layertap.ramp.kit`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from feature_cache.errors import InvalidChoice
from feature_cache.files.atomic import check_free, whole_folder
from layertap.ramp.kit import CLASSIFIER_FILE, PREPROCESSOR_FILE, SUBMISSIONS, filled, literal, require_kit
from transfer.request import FeatureRequest

OTHER = "choose another `name`"


def folder_of(kit: Path, name: str, *, overwrite: bool = False) -> Path:
    """The folder of the submission `name`, which does not exist yet or may be replaced.

    Raises
    ------
    InvalidChoice
        When the folder exists, when `kit` is not a RAMP kit, or when the name is not allowed.
    """
    require_kit(kit)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InvalidChoice(f"a submission is named by letters, digits, '_', '-' and '.'; received {name!r}.")
    folder = kit / SUBMISSIONS / name
    check_free(folder, "submission", _is_submission, overwrite=overwrite, other=OTHER)
    return folder


def write(
    folder: Path, request: FeatureRequest, head: str, params: dict[str, Any], *, unfreeze_from: str | None = None
) -> None:
    """Write a submission that fits a head on the features of `request`.

    Parameters
    ----------
    folder : Path
        The folder of the submission (see `folder_of`).
    request : FeatureRequest
        The features that the submission reads, with layers by their names.
    head, params
        The head and its parameters, as `heads.registry.make_head` takes them.
    unfreeze_from : str, optional
        Fine-tune the net from this layer on, starting from that head (see `layertap.ramp.batch_tuner.BatchTuner`).

    Raises
    ------
    StorageFailure
        When it cannot be written.
    """
    spec, config = request.specs[0], request.net.as_config()
    layers = ", ".join(request.layers)
    values: dict[str, Any] = {"net": config["name"], "layer": list(request.layers), "pool": spec.pooling}
    values |= {"size": spec.size, "weights": config["weights"], "preprocessing": config["preprocessing"]}
    if request.net.has_own_weights:
        values["preprocessing"] = spec.preprocessing
    if isinstance(request.prefix_tokens, int):
        values["prefix_tokens"] = request.prefix_tokens
    if len(request.layers) == 1:
        [values["layer"]] = request.layers
    if request.net.has_random_weights:
        values["seed"] = config["seed"]
    name = Path(config["name"]).name
    title = f"The head {head} on {layers} of {name}, kept in Layertap's cache."
    if unfreeze_from is not None:
        title = f"{name} up to {layers}, its last layers trained from a head {head}; what is before them is cached."
    with whole_folder(folder, "submission", _is_submission, overwrite=True, other=OTHER) as temporary:
        given = {key: literal(value) for key, value in values.items() if value is not None}
        features = "\n".join(f"            {key}={value}," for key, value in given.items())
        text = filled(
            "batch_classifier" if unfreeze_from is None else "batch_tuner",
            title=title.replace("\\", "\\\\").replace('"', '\\"'),
            features=features,
            head=literal(head),
            params=literal(params),
            unfreeze_from=literal(unfreeze_from),
        )
        (temporary / CLASSIFIER_FILE).write_text(text, encoding="utf-8")
        (temporary / PREPROCESSOR_FILE).write_text(filled("image_preprocessor", size=spec.size), encoding="utf-8")


def _is_submission(folder: Path) -> bool:
    return (folder / CLASSIFIER_FILE).is_file() or (folder / PREPROCESSOR_FILE).is_file()
