"""The input of an exported model: the pixels that `predict` gives to the net of the run, from an image file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import InvalidChoice, UnsafeFile
from feature_cache.spec import FeatureSpec
from transfer.data.images import FileSource, pixels_for
from transfer.data.transforms import named_for

CHANNELS = 3


def read_for_model(
    path: str | Path, about: Mapping[str, Any], page: int | None = None, *, transform_code: str | None = None
) -> np.ndarray:
    """The pixels of an image file, as the model takes them.

    Parameters
    ----------
    path : str or Path
        The image file.
    about : mapping
        The content of the file beside the model, ``model.keras.json`` for example.
    page : int, optional
        The page of a file that holds several; the first is 0.
    transform_code : str, optional
        ``FILE.py:FUNCTION``, for a model of images that a function of yours changes: the very one, which is run.

    Returns
    -------
    ndarray of shape (1, height, width, 3), uint8
        Gray images are repeated in all three channels.

    Raises
    ------
    BadImage
        When the file is not an image that can be read.
    InvalidChoice
        When `about` is not the description of an exported model.
    UnsafeFile
        When the images of the model are changed by code that is not named.
    DamagedFile
        When the feature spec in `about` is not a valid one.

    Examples
    --------
    >>> about = json.loads(Path("model.keras.json").read_text())  # doctest: +SKIP
    >>> model(read_for_model("new.jpg", about))  # doctest: +SKIP
    """
    try:
        part = about["joined"][0] if "joined" in about else about  # their pixels are the same
        spec = FeatureSpec.from_json(json.dumps(part["spec"]))
    except (KeyError, IndexError, TypeError) as error:
        raise InvalidChoice("`about` has no `spec`; give what the .json file beside the model holds.") from error
    if spec.transform is not None and named_for([spec.transform], [] if transform_code is None else [transform_code]):
        raise UnsafeFile(
            f"the images of this model are changed by code, {about.get('transform', spec.transform)!r}, which is run "
            "only where you name it, unchanged: `transform_code='FILE.py:FUNCTION'`."
        )
    pixels = pixels_for(FileSource(Path(path), page).load()[1], spec, str(path))
    return np.ascontiguousarray(np.broadcast_to(pixels, (1, *pixels.shape[:2], CHANNELS)))
