"""Files of nets by their content and name: which kind they are, and what can be done with those that are not taken."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.file_signatures import kind_by_signature
from transfer.nets.openvino_files.checks import KINDS, OPENVINO_SUFFIXES

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
NET_SUFFIXES = (*KERAS_SUFFIXES, *OPENVINO_SUFFIXES)
TAKEN = ".keras, .h5, .onnx, .tflite and .xml"
# What messages call the kinds that a file of a net may be of, or be taken for.
_NAMES = {"HDF5": "HDF5", "ZIP": "ZIP", "pickle": "a pickle", "gzip": "a gzip archive"}
_KERAS = "Load it in Keras and save the net with model.save('name.keras')"
_REBUILD = "Build the same net in Keras, give it these weights, and save it with model.save('name.keras')"
_EXPORT = "Export the net that it belongs to as an .onnx file"
# Kinds of files by their suffix, and what their owner can do.
_OTHERS = {
    ".pb": ("a graph of TensorFlow", "Load the net that it came from in Keras and save that with model.save"),
    ".pt": ("a file of PyTorch", _EXPORT),
    ".pth": ("a file of PyTorch", _EXPORT),
    ".ckpt": ("a checkpoint", _REBUILD),
    ".index": ("a part of a checkpoint of TensorFlow", _REBUILD),
    ".safetensors": ("weights in safetensors", _EXPORT),
    ".npz": ("arrays of NumPy", _REBUILD),
    ".pkl": ("a pickle", _KERAS),
    ".pickle": ("a pickle", _KERAS),
    ".joblib": ("a pickle", _KERAS),
    ".json": ("an architecture without weights", _KERAS),
    ".bin": ("a file of weights, for instance those of a net for OpenVINO", "Give the .xml file beside it"),
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
        return f"{name} is {described[0]}, and Layertap takes nets as {TAKEN} files. {described[1]}."
    return f"{name} is no net by its name; Layertap takes {TAKEN} files. Give it the suffix that it was saved with."


def described_by_suffix(name: str) -> tuple[str, str] | None:
    """What a file is by its suffix, and what its owner can do, where it is neither a net nor weights of Keras."""
    suffix = Path(name).suffix.lower()
    if suffix in KINDS:
        return f"a whole net, for {KINDS[suffix]}", "Give it as the net"
    return _OTHERS.get(suffix)
