"""The nets that Layertap knows by name, and what identifies a net. Keras is not imported here.

Building a net and cutting it at a layer is the work of `transfer.nets.backbone`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from feature_cache.errors import LONGEST, BadData, DamagedFile, InvalidChoice, UnsafeFile, unknown
from feature_cache.files.checked import real_path
from feature_cache.files.neighbours import suggestion
from feature_cache.spec import FILLS, LARGEST_SIZE, FeatureSpec
from transfer.nets.expected_pixels.expected import (
    MEANINGS,
    ExpectedPixels,
    expected_by_layers,
    expected_pixels,
    unknown_pixels,
)
from transfer.nets.files.keras_file import digest_of_trusted, foreign_parts, input_shape, may_have_tokens, read_net_file
from transfer.nets.files.kinds import NET_SUFFIXES, not_taken
from transfer.nets.hub import PREFIX, Preset, is_preset, open_preset
from transfer.nets.openvino_files.checks import digest_of, is_openvino_file
from transfer.nets.openvino_files.image_input import image_input
from transfer.nets.openvino_files.pixels import expected_by_graph
from transfer.nets.openvino_files.reading import read
from transfer.nets.openvino_files.tensors import has_rows
from transfer.nets.own_weights import OWN_WEIGHTS
from transfer.nets.user_nets import UserNet, describe, in_any_folder, is_code, named_again, split

LARGEST_NET = 16 * 2**30  # bytes
RUN_FILES = WEIGHTS_FILE, NET_FILE = "net.weights.h5", "net.keras"  # of a fine-tuned net, in the folder of its run
LONGEST_SIDE = 2**15  # of an input, in pixels
_ANY_SIZE = "the net {} takes images of any size; choose one with `size`."


@dataclass(frozen=True)
class NetInfo:
    """What is known of a named net without building it.

    Attributes
    ----------
    builder : str
        Its function in ``keras.applications``; empty for nets that Layertap builds itself.
    size : int
        Customary input height and width, in pixels.
    min_size : int
        The smallest input it takes.
    preprocessing : str
        What turns pixels of 0 to 255 into what it was trained on (see `FeatureSpec`); ``none``
        where the net begins with layers that do it.
    readout : str
        The last layer before the classifier.
    width : int
        Channels of the readout.
    parameters : float
        Millions of parameters up to the readout.
    gflops : float
        For one image of `size`, up to the readout (see `transfer.nets.costs`).
    pooling : str
        Customary pooling of the readout.
    has_classifier : bool
        Whether layers after the readout tell the classes apart that it was trained on.
    """

    name: str
    builder: str
    size: int
    min_size: int
    preprocessing: str
    readout: str
    width: int
    parameters: float
    gflops: float
    pooling: str = "avg"
    has_classifier: bool = True


# A net of keras.applications needs its line here alone. One that Layertap builds itself is also in `loading.OWN_NETS`,
# and its weights in `own_weights.OWN_WEIGHTS`.
# fmt: off
NETS: dict[str, NetInfo] = {
    info.name: info
    for info in (
        #       name, builder, size, smallest, preprocessing, readout, width, parameters, GFLOPs
        NetInfo("glyphnet",         "",                 32, 16, "tf",    "block4_pool",           256,   1.17, 0.104,
                has_classifier=False),
        NetInfo("efficientnetlite0","",                224, 32, "none",  "top_activation",       1280,   3.41, 0.768),
        NetInfo("convnextbase",     "ConvNeXtBase",     224, 32, "none",  "layer_normalization",  1024,  87.57,  30.7),
        NetInfo("convnextlarge",    "ConvNeXtLarge",    224, 32, "none",  "layer_normalization",  1536, 196.23,  68.7),
        NetInfo("convnextsmall",    "ConvNeXtSmall",    224, 32, "none",  "layer_normalization",   768,  49.45,  17.4),
        NetInfo("convnexttiny",     "ConvNeXtTiny",     224, 32, "none",  "layer_normalization",   768,  27.82,  8.91),
        NetInfo("convnextxlarge",   "ConvNeXtXLarge",   224, 32, "none",  "layer_normalization",  2048, 348.15,   122),
        NetInfo("densenet121",      "DenseNet121",      224, 32, "torch", "relu",                 1024,   7.04,  5.67),
        NetInfo("densenet169",      "DenseNet169",      224, 32, "torch", "relu",                 1664,  12.64,  6.72),
        NetInfo("densenet201",      "DenseNet201",      224, 32, "torch", "relu",                 1920,  18.32,  8.58),
        NetInfo("efficientnetb0",   "EfficientNetB0",   224, 32, "none",  "top_activation",       1280,   4.05, 0.769),
        NetInfo("efficientnetb1",   "EfficientNetB1",   240, 32, "none",  "top_activation",       1280,   6.58,  1.37),
        NetInfo("efficientnetb2",   "EfficientNetB2",   260, 32, "none",  "top_activation",       1408,   7.77,  1.98),
        NetInfo("efficientnetb3",   "EfficientNetB3",   300, 32, "none",  "top_activation",       1536,  10.78,  3.65),
        NetInfo("efficientnetb4",   "EfficientNetB4",   380, 32, "none",  "top_activation",       1792,  17.67,  8.78),
        NetInfo("efficientnetb5",   "EfficientNetB5",   456, 32, "none",  "top_activation",       2048,  28.51,  20.5),
        NetInfo("efficientnetb6",   "EfficientNetB6",   528, 32, "none",  "top_activation",       2304,  40.96,  38.1),
        NetInfo("efficientnetb7",   "EfficientNetB7",   600, 32, "none",  "top_activation",       2560,  64.10,  75.5),
        NetInfo("efficientnetv2b0", "EfficientNetV2B0", 224, 32, "none",  "top_activation",       1280,   5.92,  1.43),
        NetInfo("efficientnetv2b1", "EfficientNetV2B1", 240, 32, "none",  "top_activation",       1280,   6.93,  2.39),
        NetInfo("efficientnetv2b2", "EfficientNetV2B2", 260, 32, "none",  "top_activation",       1408,   8.77,  3.39),
        NetInfo("efficientnetv2b3", "EfficientNetV2B3", 300, 32, "none",  "top_activation",       1536,  12.93,  6.02),
        NetInfo("efficientnetv2l",  "EfficientNetV2L",  480, 32, "none",  "top_activation",       1280, 117.75,   112),
        NetInfo("efficientnetv2m",  "EfficientNetV2M",  480, 32, "none",  "top_activation",       1280,  53.15,  49.2),
        NetInfo("efficientnetv2s",  "EfficientNetV2S",  384, 32, "none",  "top_activation",       1280,  20.33,  16.7),
        NetInfo("inceptionresnetv2","InceptionResNetV2",299, 75, "tf",    "conv_7b_ac",           1536,  54.34,  26.3),
        NetInfo("inceptionv3",      "InceptionV3",      299, 75, "tf",    "mixed10",              2048,  21.80,  11.4),
        NetInfo("mobilenet",        "MobileNet",        224, 32, "tf",    "conv_pw_13_relu",      1024,   3.23,  1.14),
        NetInfo("mobilenetv2",      "MobileNetV2",      224, 32, "tf",    "out_relu",             1280,   2.26, 0.599),
        NetInfo("mobilenetv3large", "MobileNetV3Large", 224, 32, "none",  "activation_19",         960,   3.00, 0.428),
        NetInfo("mobilenetv3small", "MobileNetV3Small", 224, 32, "none",  "activation_17",         576,   0.94,  0.11),
        NetInfo("nasnetlarge",      "NASNetLarge",      331, 32, "tf",    "activation_259",       4032,  84.92,  47.6),
        NetInfo("nasnetmobile",     "NASNetMobile",     224, 32, "tf",    "activation_187",       1056,   4.27,  1.13),
        NetInfo("resnet101",        "ResNet101",        224, 32, "caffe", "conv5_block3_out",     2048,  42.66,  15.1),
        NetInfo("resnet101v2",      "ResNet101V2",      224, 32, "tf",    "post_relu",            2048,  42.63,  14.4),
        NetInfo("resnet152",        "ResNet152",        224, 32, "caffe", "conv5_block3_out",     2048,  58.37,  22.6),
        NetInfo("resnet152v2",      "ResNet152V2",      224, 32, "tf",    "post_relu",            2048,  58.33,  21.8),
        NetInfo("resnet50",         "ResNet50",         224, 32, "caffe", "conv5_block3_out",     2048,  23.59,  7.71),
        NetInfo("resnet50v2",       "ResNet50V2",       224, 32, "tf",    "post_relu",            2048,  23.56,  6.96),
        NetInfo("vgg16",            "VGG16",            224, 32, "caffe", "block5_pool",           512,  14.71,  30.7),
        NetInfo("vgg19",            "VGG19",            224, 32, "caffe", "block5_pool",           512,  20.02,    39),
        NetInfo("xception",         "Xception",         299, 71, "tf",    "block14_sepconv2_act", 2048,  20.86,  16.7),
    )
}
# fmt: on


@dataclass(frozen=True)
class Net:
    """A net with its weights, as the user asked for it.

    Parameters
    ----------
    name : str
        One of `NETS`; ``hub:`` and a preset of KerasHub (a folder, a name or an address); the path of a file that
        holds a whole net: ``.keras``, ``.h5``, ``.onnx``, ``.tflite`` or ``.xml``; or a function of the user's that
        returns a net, ``FILE.py:make_net`` or ``module:function``, which is called when the net is needed.
    weights : str, optional
        ``imagenet``, ``none`` for random ones, or the path of a weights file. By default ``imagenet``,
        and their own for glyphnet and files.
    seed : int
        Of the random weights.
    preprocessing : str, optional
        By default the net's own; that of a file is told by its layers (see `expected_pixels`).
    """

    name: str
    weights: str | None = None
    seed: int = 0
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if self.is_preset:
            if self.weights is not None:
                raise InvalidChoice(f"{self.name} holds its own weights; leave out `weights`.")
            open_preset(self.name)  # an error if there is no such preset
            return
        if self.is_code:
            if self.weights is not None:
                raise InvalidChoice(f"{self.name} returns a net with its weights; leave out `weights`.")
            return
        if self.info is None and not self.is_file:
            if reason := not_taken(self.name):
                raise InvalidChoice(reason)
            raise unknown("there is no net", self.name, NETS, "List them with: layertap nets.")
        if self.is_file:
            if not Path(self.name).is_file():
                raise InvalidChoice(
                    f"there is no net file {self.name!r}"
                    f"{suggestion(self.name) or '; give another path, or bring the file back there.'}"
                )
            if self.weights is not None:
                raise InvalidChoice(f"{self.name} holds its own weights; leave out `weights`.")
        elif self.weights == "imagenet" and self.name.lower() == "glyphnet":
            raise InvalidChoice("glyphnet has no ImageNet weights; leave out `weights`, or use `weights='none'`.")
        elif self.weights not in (None, "imagenet", "none") and not Path(self.weights).is_file():
            raise InvalidChoice(
                f"`weights` is 'imagenet', 'none' or a weights file, and there is no file {self.weights!r}."
            )

    @property
    def info(self) -> NetInfo | None:
        """What is known of a named net; None for a file."""
        return NETS.get(self.name.lower())

    @property
    def is_file(self) -> bool:
        """Whether the net is a file."""
        return self.info is None and self.name.lower().endswith(NET_SUFFIXES)

    @property
    def is_preset(self) -> bool:
        """Whether the net is a preset of KerasHub."""
        return is_preset(self.name)

    @property
    def is_code(self) -> bool:
        """Whether the net is what a function of the user's returns."""
        return self.info is None and is_code(self.name)

    @property
    def has_own_weights(self) -> bool:
        """Whether the net comes with its weights, as a file, a preset, or from a function."""
        return self.is_file or self.is_preset or self.is_code

    @cached_property
    def of_user(self) -> UserNet:
        """What the function of the user's returns, which is called."""
        return describe(self.name, self.seed)

    @property
    def is_of_hub(self) -> bool:
        """Whether classes of KerasHub, or of a trusted module, are in the net."""
        if self.is_preset:
            return True
        if self.is_code:
            return bool(foreign_parts(self.of_user.config))
        is_keras = self.is_file and not self.is_openvino_file
        return is_keras and bool(foreign_parts(read_net_file(Path(self.name)).config))

    @property
    def preset(self) -> Preset:
        """The files of a preset of KerasHub."""
        return open_preset(self.name)

    @property
    def is_openvino_file(self) -> bool:
        """Whether the net is a file that OpenVINO reads, and Keras has no part in it."""
        return self.is_file and is_openvino_file(self.name)

    def require_keras(self, purpose: str) -> None:
        """Raise InvalidChoice for a net without layers of Keras.

        Parameters
        ----------
        purpose : str
            What needs them, as the end of a sentence: ``"can be fine-tuned"``.
        """
        if self.is_openvino_file:
            raise InvalidChoice(
                f"{self.name} is a file for OpenVINO, which computes features; only a net of Keras {purpose}. Take the "
                "same net by its name in `layertap nets`, or as a .keras file."
            )

    @property
    def weights_file(self) -> Path | None:
        """The file that the weights come from; None where they are random, or Keras or a function fetches them.

        Raises
        ------
        MissingDependency
            When it comes in a package that is not installed.
        """
        if self.is_preset:
            return self.preset.files[-1]
        if self.is_code:
            return None
        if self.info is None:
            return Path(self.name)
        if self.weights not in (None, "imagenet", "none"):
            return Path(self.weights)
        own = None if self.has_random_weights else OWN_WEIGHTS.get(self.info.name)
        return own.path(self.info.name) if own else None

    @property
    def has_random_weights(self) -> bool:
        return self.weights == "none"

    def without_weights(self) -> Net:
        """The same architecture without pretrained weights, for what does not depend on them: names, shapes, costs.

        It has random weights, which need not be fetched. A file is read with its own weights.
        """
        return self if self.has_own_weights else replace(self, weights="none")

    @cached_property
    def weights_id(self) -> str:
        """What identifies the weights in a `FeatureSpec`."""
        if self.has_random_weights:
            return f"random-{self.seed}"
        if self.is_openvino_file:
            return f"sha256:{digest_of(Path(self.name))}"
        if self.is_preset:
            return f"sha256:{self.preset.digest()}"
        if self.is_code:
            return f"sha256:{self.of_user.digest}"
        if self.weights_file is not None:
            status = self.weights_file.stat()
            if status.st_size > LARGEST_NET:  # before all of it is read for its digest
                raise BadData(
                    f"{self.weights_file} has {status.st_size:,} bytes, more than the {LARGEST_NET:,} that a file of "
                    "weights may have; give one that Keras saved."
                )
            return "sha256:" + _file_digest(self.weights_file, status.st_size, status.st_mtime_ns)
        return "imagenet"

    def as_config(self) -> dict[str, Any]:
        """The arguments that make this net again from any folder."""
        config = asdict(self)
        if self.is_preset:  # of any folder: the files on this machine
            return {**config, "name": f"{PREFIX}{self.preset.folder.absolute()}"}
        if self.is_code:
            return {**config, "name": in_any_folder(self.name)}
        key = "name" if self.is_file else "weights"
        if self.is_file or self.weights not in (None, "imagenet", "none"):
            config[key] = str(Path(config[key]).absolute())
        return config

    @property
    def net_id(self) -> str:
        """What identifies the architecture in a `FeatureSpec`."""
        if self.info is not None:
            return self.info.name
        digest = self.weights_id.removeprefix("sha256:")[:12]
        if self.is_preset:
            return f"hub-{digest}"
        if self.is_code:
            return f"{split(self.name)[1]}-{digest}"
        if self.is_openvino_file:
            return f"file-{digest}"
        # Earlier versions computed such a net in 16 bits: those features are not these.
        found = read_net_file(Path(self.name))
        code = digest_of_trusted(found.config)
        return "-".join(["file", digest, *["float32"] * found.computes_in_half, *[code] * bool(code)])

    @property
    def applied_preprocessing(self) -> str:
        """What turns pixels of 0 to 255 into what the net is given (see `FeatureSpec`)."""
        if self.preprocessing is None and self.expected_pixels is not None:
            return self.expected_pixels.preprocessing
        return self.preprocessing or (self.info.preprocessing if self.info else "none")

    @cached_property
    def expected_pixels(self) -> ExpectedPixels | None:
        """What is inferred of the pixels that the net of a file expects; None where it is said, or known by name."""
        if not self.has_own_weights or self.preprocessing is not None:
            return None
        if self.is_preset:
            return self._pixels_of_preset()
        if self.is_code:
            return expected_by_layers(self.of_user.config, self.name)
        return expected_by_graph(Path(self.name)) if self.is_openvino_file else expected_pixels(Path(self.name))

    def _pixels_of_preset(self) -> ExpectedPixels:
        pixels = self.preset.pixels
        if pixels is None:
            return unknown_pixels(self.preset.folder)
        how = MEANINGS.get(pixels.preprocessing, pixels.preprocessing)
        text = f"{self.name} gets pixels as its image converter says: {how}, {pixels.fit}, {pixels.interpolation}."
        return ExpectedPixels(pixels.preprocessing, text, is_known=True)

    @property
    def default_fit(self) -> str:
        """How images are fitted to the input of the net, where nobody says it."""
        pixels = self.preset.pixels if self.is_preset and self.preprocessing is None else None
        return pixels.fit if pixels else "stretch"

    @property
    def default_fill(self) -> str:
        """What images that are padded are filled up with, where nobody says it: KerasHub pads with black."""
        return "black" if self.default_fit == "pad" else FILLS[-1]

    @property
    def default_interpolation(self) -> str:
        """How images are resized, where nobody says it."""
        pixels = self.preset.pixels if self.is_preset and self.preprocessing is None else None
        return pixels.interpolation if pixels else "bilinear"

    @property
    def default_pooling(self) -> str:
        """The customary pooling of the net's readout."""
        return self.info.pooling if self.info else "avg"

    @cached_property
    def may_have_tokens(self) -> bool:
        """Whether some layer may have an output of tokens, and not a map; nets known by name have none."""
        if self.is_preset:
            return True
        if self.is_code:
            return may_have_tokens(self.of_user.config)
        if self.is_openvino_file:
            return has_rows(read(Path(self.name)))
        return self.is_file and may_have_tokens(read_net_file(Path(self.name)).config)

    def default_size(self) -> tuple[int, int]:
        """The net's customary input height and width.

        Raises
        ------
        BadData
            For a file whose input has no fixed size, or is no image.
        """
        if self.info is not None:
            return self.info.size, self.info.size
        if self.is_preset:
            if self.preset.size is None:
                raise BadData(_ANY_SIZE.format(self.name))
            return self.preset.size
        if self.is_openvino_file:
            return self._size_of_graph()
        shape = self.of_user.input_shape if self.is_code else input_shape(read_net_file(Path(self.name)).config)
        if shape is not None and len(shape) != 3:
            raise BadData(
                f"the net {self.name} takes no images: its input is {sides_text(shape)}, not height x width x channels."
            )
        if shape is None or shape[0] is None or shape[1] is None:
            raise BadData(_ANY_SIZE.format(self.name))
        return shape[0], shape[1]

    def _size_of_graph(self) -> tuple[int, int]:
        height, width = image_input(read(Path(self.name)), Path(self.name)).size()
        if height is None or width is None:
            raise BadData(_ANY_SIZE.format(self.name))
        return height, width

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise InvalidChoice when an input of `size` is below the net's minimum, or larger than any image can be."""
        if max(size) > LONGEST_SIDE or size[0] * size[1] > LARGEST_SIZE:
            raise InvalidChoice(
                f"an input of {size[0]} x {size[1]} pixels for {self.name} is too large: at most {LONGEST_SIDE:,} a "
                f"side and {LARGEST_SIZE:,} in all are computed. Choose a smaller one with `size`."
            )
        if self.info is not None and min(size) < self.info.min_size:
            raise InvalidChoice(
                f"{self.info.name} needs images of at least {self.info.min_size} x {self.info.min_size} pixels; "
                f"received `size='{size[0]}x{size[1]}'`."
            )

    def spec(
        self, layer: str, *, pooling: str | None = None, size: tuple[int, int] | None = None, **rest: Any
    ) -> FeatureSpec:
        """The spec of the features of `layer`, with the net's own defaults; Keras is not imported.

        Parameters
        ----------
        rest
            Further fields of `FeatureSpec`.
        """
        size = size or self.default_size()
        self.check_size(size)
        return FeatureSpec(
            net=self.net_id,
            weights=self.weights_id,
            layer=layer,
            pooling=pooling or self.default_pooling,
            size=size,
            preprocessing=self.applied_preprocessing,
            **rest,
        )


def net_from_config(config: Any, folder: Path | None = None, code: Sequence[str] = ()) -> Net:
    """The net whose `Net.as_config` a run carries; a file without a path lies in `folder`, that of the run.

    Parameters
    ----------
    code : sequence of str
        The functions that the user has named, which may be run.

    Raises
    ------
    DamagedFile
        When `config` is not of that kind.
    InvalidChoice
        When its file is not there any more.
    UnsafeFile
        When a function makes the net that the user has not named.
    """
    kinds = {"name": str, "weights": str | None, "seed": int, "preprocessing": str | None}
    whole = isinstance(config, dict) and kinds.keys() <= config.keys()
    if not whole or not all(isinstance(config[key], kind) for key, kind in kinds.items()):
        raise DamagedFile("the run does not say which net its head goes with; train it again.")
    found = {key: config[key] for key in kinds}
    for key in ("name", "weights"):
        if folder is not None and found[key] in RUN_FILES:
            found[key] = str(real_path(folder) / found[key])
    if found["name"].lower() not in NETS and is_code(found["name"]):
        recorded = found["name"]
        if (named := named_again(recorded, code)) is None:
            raise UnsafeFile(
                f"the net {recorded[:LONGEST]!r} is made by code of its own, which is run only where you name it: "
                f"`net_code='{recorded[:LONGEST]}'`."
            )
        found["name"] = named
    return Net(**found)


def sides_text(shape: Sequence[int | None]) -> str:
    """A shape for a sentence."""
    return " x ".join("any" if side is None else str(side) for side in shape)


@cache
def _file_digest(file: Path, size: int, mtime: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def keras_models_folder() -> Path:
    """Where Keras keeps downloaded weights."""
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
