"""Files of nets by their content and name: which kind they are, and what can be done with those that are not taken."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.file_signatures import kind_by_signature

NET_SUFFIXES = (".keras", ".h5", ".hdf5")
# What messages call the kinds that a file of a net may be of, or be taken for.
_NAMES = {"HDF5": "HDF5", "ZIP": "ZIP", "pickle": "a pickle", "gzip": "a gzip archive"}
_KERAS = "Load it in Keras and save the net with model.save('name.keras')"
_REBUILD = "Build the same net in Keras, give it these weights, and save it with model.save('name.keras')"
# Kinds of files by their suffix, and what their owner can do.
_OTHERS = {
    ".pb": ("a graph of TensorFlow", "Load the net that it came from in Keras and save that with model.save"),
    ".tflite": ("a net for TensorFlow Lite", "Take the net that it was converted from, as a .keras file"),
    ".onnx": ("a net in ONNX", "Take the net that it was exported from, as a .keras file"),
    ".pt": ("a file of PyTorch", _REBUILD),
    ".pth": ("a file of PyTorch", _REBUILD),
    ".ckpt": ("a checkpoint", _REBUILD),
    ".index": ("a part of a checkpoint of TensorFlow", _REBUILD),
    ".safetensors": ("weights in safetensors", _REBUILD),
    ".npz": ("arrays of NumPy", _REBUILD),
    ".pkl": ("a pickle", _KERAS),
    ".pickle": ("a pickle", _KERAS),
    ".joblib": ("a pickle", _KERAS),
    ".json": ("an architecture without weights", _KERAS),
    ".xml": ("a net for OpenVINO", "Take the net that it was converted from, as a .keras file"),
    ".mlmodel": ("a net for Core ML", "Take the net that it was converted from, as a .keras file"),
    ".zip": ("an archive", "Unpack it, and give the .keras file in it"),
    ".hdf": ("of another suffix than nets have", "Call it .h5 if it is a net that Keras saved"),
}


def kind_of(file: Path) -> str:
    """What a file begins as: ``HDF5``, ``ZIP`` or another kind, in words; empty where that is not known."""
    with file.open("rb") as stream:
        kind = kind_by_signature(stream.read(64))
    return _NAMES.get(kind or "", "")


def not_taken(name: str) -> str | None:
    """Why something that is there is not taken as a net, and what to do; None where nothing is known of it."""
    path = Path(name)
    if os.path.isdir(name):  # noqa: PTH112 (a name may be too long for a path, or hold what no path can)
        if (path / "saved_model.pb").exists():
            return (
                f"{name} is a SavedModel of TensorFlow, which is not taken. Load it in the version of Keras that wrote "
                "it, and save the net with model.save('name.keras')."
            )
        if (path / "config.json").exists() and any(path.glob("model.weights.*")):
            return f"{name} is an unpacked .keras file; load it in Keras and save it with model.save('name.keras')."
        return None
    if not os.path.isfile(name):  # noqa: PTH113
        return None
    if described := described_by_suffix(name):
        return f"{name} is {described[0]}, and Layertap takes nets as .keras and .h5 files. {described[1]}."
    return (
        f"{name} is no net by its name; Layertap takes .keras and .h5 files that model.save wrote. Give it the suffix "
        "that it was saved with."
    )


def described_by_suffix(name: str) -> tuple[str, str] | None:
    """What a file is by its suffix, and what its owner can do, where it is neither a net nor weights of Keras."""
    return _OTHERS.get(Path(name).suffix.lower())
