"""`FeatureRequest`: which features of a net are computed, by layers, pooling and input size."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

from feature_cache.errors import BadData, DamagedFile, InvalidChoice, UnsafeFile
from feature_cache.process.keras_import import importing_keras
from feature_cache.space import Space
from feature_cache.spec import PATCH_POOLINGS, FeatureSpec, effective_prefix
from transfer import resolved_layers
from transfer.data.augment import Augmentation
from transfer.data.transforms import Transform, transform_of
from transfer.nets.catalogue import Net, net_from_config
from transfer.nets.openvino_files.net import OpenVinoNet, open_net
from transfer.nets.pooling import CLASS_POOLINGS, check_tokens

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone

# How images become pixels of the input's size.
CHOICES = ("fit", "fill", "interpolation", "alpha", "pages", "window")

PrefixTokens = Literal["auto"] | int | None | tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class FeatureRequest:
    """The features that are to be computed by a net.

    Parameters
    ----------
    net : Net
    layers : tuple of str
        Names or indices of layers; empty for the net's customary readout.
    pooling : str, optional
        See `FeatureSpec`, also for `fit`, `fill`, `interpolation`, `alpha`, `pages` and `window`; by default what is
        customary for the net.
    size : (height, width), optional
        The size of the net's input; by default the net's own.
    precision : {'float32', 'bfloat16', 'float16', 'int8'}
        The precision of the computation.
    dtype, coding
        How the features are stored (see `FeatureSpec`).
    augmentation : str, optional
        The `Augmentation.key` of the views other than the first.
    views : int
        The number of views of each image; view 0 is the plain image.
    prefix_tokens : 'auto', int, None, or tuple of (layer, int or None)
        How many tokens of an output are no patches (see `transfer.nets.pooling`). ``auto`` is what the net tells, and
        `resolve` puts the number of each layer in its place; it is None where the output is no row of tokens. None
        for all: outputs are taken as they are.
    calibrations : tuple of (layer, calibration)
        For ``int8``: the quantised net of each layer, by its name (see `FeatureSpec.calibration`). Layers that are not
        named have none yet (see `transfer.quantisation.settling`).
    transform : Transform, optional
        The function of the user's that changes images before they are fitted to the net's input.

    Raises
    ------
    InvalidChoice
        If there are several views and no augmentation.
    """

    net: Net
    layers: tuple[str, ...] = ()
    pooling: str | None = None
    size: tuple[int, int] | None = None
    fit: str = ""
    interpolation: str = ""
    precision: str = "float32"
    dtype: str = "float32"
    coding: str | None = None
    augmentation: str | None = None
    views: int = 1
    alpha: str = "white"
    pages: str = "first"
    window: str | None = None
    prefix_tokens: PrefixTokens = "auto"
    calibrations: tuple[tuple[str, str], ...] = ()
    transform: Transform | None = None
    fill: str = ""

    def __post_init__(self) -> None:
        for name in ("fit", "interpolation"):
            if not getattr(self, name):  # what is customary for the net
                object.__setattr__(self, name, getattr(self.net, f"default_{name}"))
        if not self.fill:
            object.__setattr__(self, "fill", self.net.default_fill if self.fit == "pad" else "black")
        if self.views < 1 or (self.views > 1 and self.augmentation is None):
            raise InvalidChoice(
                f"{self.views} views of an image: there is at least 1, and several need `augmentation` to differ."
            )

    @cached_property
    def specs(self) -> list[FeatureSpec]:
        """One spec for each layer, without repeats.

        Keras is imported, and the net built, only where the request does not name its layers (see `resolve`).

        Raises
        ------
        LayertapError
            When the net cannot be loaded, lacks the layer, or does not take the size.
        """
        names = ("pooling", "size", "precision", "dtype", "coding", "augmentation", *CHOICES)
        fields = {name: getattr(self, name) for name in names}
        fields["transform"] = self.transform and self.transform.digest
        quantised = dict(self.calibrations) if self.precision == "int8" else {}
        resolved = self.resolve()[0]
        return [
            self.net.spec(layer, prefix_tokens=resolved.prefix_of(layer), calibration=quantised.get(layer), **fields)
            for layer in dict.fromkeys(resolved.layers)
        ]

    def resolve(self) -> tuple[FeatureRequest, Backbone | OpenVinoNet | None]:
        """The same request with its layers by name, and the net if it had to be built to learn them.

        The names of layers are known without the net unless some are indices, or the net is a file and its readout is
        requested. So is how tokens are pooled, unless the net is a file that may have some. What a net was built for is
        remembered (see `transfer.resolved_layers`). Those who need the net afterwards use the one that is returned
        instead of building another.

        Raises
        ------
        LayertapError
            When the net cannot be loaded, or lacks a layer.

        Examples
        --------
        >>> request, backbone = FeatureRequest(Net("vgg16")).resolve()
        >>> request.layers, backbone
        (('block5_pool',), None)
        """
        if (known := self.__dict__.get("_resolved")) is not None:
            return known, None
        layers = self._known_layers()
        if layers and self._knows_tokens(layers):
            return (self if layers == self.layers else replace(self, layers=layers)), None
        asked = (self.layers, self._pooling, self.prefix_tokens)
        key = resolved_layers.key_of(self.net, self.size, asked)
        resolved, backbone = (self._recalled(key) if key else None), None
        if resolved is None:
            resolved, backbone = self._looked_up()
            if key:
                counts = resolved.prefix_tokens
                resolved_layers.remember(key, resolved.layers, counts if isinstance(counts, tuple) else None)
        self.__dict__["_resolved"] = resolved  # as `cached_property` keeps it
        return resolved, backbone

    def _recalled(self, key: str) -> FeatureRequest | None:
        """The request as it was resolved before for the same net; None where it was not."""
        if (known := resolved_layers.recall(key)) is None:
            return None
        layers, counts = known
        return replace(self, layers=layers, prefix_tokens=self.prefix_tokens if counts is None else counts)

    def _looked_up(self) -> tuple[FeatureRequest, Backbone | OpenVinoNet]:
        """The request as the net resolves it, and the net, which is built for that."""
        backbone = self.build()
        layers = tuple(backbone.find(layer) for layer in self.layers) or (backbone.readout,)
        resolved = replace(self, layers=layers)
        if not resolved._knows_tokens(layers):
            counts = tuple((layer, backbone.prefix_tokens(layer)) for layer in layers)
            for layer, count in counts:
                if count is None:
                    check_tokens(layer, self._pooling, backbone.taps[layer].shape[1:])
            resolved = replace(resolved, prefix_tokens=counts)
        return resolved, backbone

    @property
    def _pooling(self) -> str:
        return self.pooling or self.net.default_pooling

    def _knows_tokens(self, layers: tuple[str, ...]) -> bool:
        """Whether it is known without the net how the tokens of these layers are pooled, if they have any."""
        if isinstance(self.prefix_tokens, tuple):
            return set(layers) <= dict(self.prefix_tokens).keys()
        if self.prefix_tokens != "auto" or self._pooling not in (*PATCH_POOLINGS, *CLASS_POOLINGS):
            return True
        return not self.net.may_have_tokens

    def prefix_of(self, layer: str) -> int | None:
        """The number of prefix tokens in the spec of `layer`, once the request is resolved.

        Raises
        ------
        InvalidChoice
            When the class token is to be read, and there is none.
        """
        count = self.prefix_tokens
        if isinstance(count, tuple):
            count = dict(count)[layer]
        elif count == "auto":
            count = None
            if self._pooling in CLASS_POOLINGS and not self.net.may_have_tokens:
                raise InvalidChoice(
                    f"`pooling='{self._pooling}'` reads the class token, and the outputs of {self.net.name} are maps, "
                    "not tokens; use `pooling='avg'`."
                )
        return effective_prefix(self._pooling, count)

    def _known_layers(self) -> tuple[str, ...]:
        """The names of the layers where they are known without the net; empty where they are not."""
        layers = self.layers
        if not layers and self.net.info is not None:
            layers = (self.net.info.readout,)
        return () if any(layer.removeprefix("-").isdigit() for layer in layers) else layers

    def build(self) -> Backbone | OpenVinoNet:
        """Build the net, which has all the layers, to read it.

        Those who need it several times keep it in a `SharedNet`.

        Raises
        ------
        InvalidChoice
            When the net lacks one of the layers.
        MissingDependency
            When the backend of Keras is not installed, and the net needs it.
        """
        if not self.net.is_openvino_file:
            return self.build_keras("is built")
        net = open_net(self.net, self.size)
        for layer in self.layers:
            net.find(layer)
        return net

    def build_outline(self) -> Backbone | OpenVinoNet:
        """Build the net for the names, the shapes and the costs of its layers: no weights are fetched or drawn.

        Raises
        ------
        InvalidChoice
            When the net lacks one of the layers.
        MissingDependency
            When the backend of Keras is not installed, and the net needs it.
        """
        outline = replace(self, net=self.net.without_weights())
        if outline.net.is_openvino_file or outline.net.is_code:  # whose weights are what identifies it
            return outline.build()
        with importing_keras():
            from transfer.nets.random_weights import no_draws  # it loads Keras
        with no_draws():
            return outline.build()

    def build_keras(self, purpose: str) -> Backbone:
        """Build the net from layers of Keras. This imports Keras, and takes seconds for a large net.

        Each call gives a net of its own, which may be trained.

        Parameters
        ----------
        purpose : str
            What such a net is built for (see `Net.require_keras`).

        Raises
        ------
        InvalidChoice
            When the net lacks one of the layers, or has no layers of Keras.
        MissingDependency
            When the backend of Keras is not installed.
        """
        self.net.require_keras(purpose)
        with importing_keras():
            from transfer.nets.backbone import backbone_for  # it loads Keras

        precision = "float32" if self.precision == "int8" else self.precision  # what a net is quantised from
        return backbone_for(self.net, self.layers, self.size, precision)


class SharedNet:
    """The net of a request for those who only read it: it is built when it is first needed, and shared.

    Parameters
    ----------
    request : FeatureRequest
    backbone : Backbone or OpenVinoNet, optional
        The net, if it has been built already.
    """

    def __init__(self, request: FeatureRequest, backbone: Backbone | OpenVinoNet | None = None) -> None:
        self._request = request
        self._built = {} if backbone is None else {self._key(request.precision): backbone}

    def at(self, precision: str) -> Backbone | OpenVinoNet:
        """The net that computes in this precision. It must not be trained.

        Raises
        ------
        InvalidChoice
            When the net lacks one of the layers of the request.
        """
        key = self._key(precision)
        if key not in self._built:
            self._built[key] = replace(self._request, precision=precision).build()
        return self._built[key]

    def keras_at(self, precision: str) -> Backbone:
        """The same, of a net that Keras builds.

        Raises
        ------
        InvalidChoice
            When the net lacks one of the layers of the request, or has no layers of Keras.
        """
        self._request.net.require_keras("is built")
        return cast("Backbone", self.at(precision))

    def _key(self, precision: str) -> str:
        """The precision, of nets that are built otherwise for each; OpenVINO computes one graph in all of them."""
        if self._request.net.is_openvino_file:
            return "any"
        return "float32" if precision == "int8" else precision


def request_for(spec: FeatureSpec, net: Net, views: int = 1) -> FeatureRequest:
    """The request that gives `spec` again, for instance the one that a run carries.

    Raises
    ------
    BadData
        When its features cannot be computed: the net is not, or no longer, the one of `spec`, or this version of
        Layertap makes its pixels in another way. The message names what differs.
    UnsafeFile
        When it has a transform, which the user has not named.
    """
    if spec.augmentation is not None:
        try:
            Augmentation.from_key(spec.augmentation)
        except DamagedFile as error:
            raise BadData(
                f"these features cannot be computed any more: their augmentation was {spec.augmentation!r}, which this "
                "version of Layertap does not know. Bring back the version that made them, or extract and train again."
            ) from error
    request = FeatureRequest(
        replace(net, preprocessing=spec.preprocessing),
        (spec.layer,),
        spec.pooling,
        spec.size,
        spec.fit,
        spec.interpolation,
        spec.precision,
        spec.dtype,
        spec.coding,
        spec.augmentation,
        views,
        spec.alpha,
        spec.pages,
        spec.window,
        spec.prefix_tokens,
        () if spec.calibration is None else ((spec.layer, spec.calibration),),
        transform_of(spec),
        spec.fill,
    )
    now = request.specs[0]
    for field in fields(spec):
        before, after = getattr(spec, field.name), getattr(now, field.name)
        if before != after:
            raise BadData(
                f"these features cannot be computed any more: their {field.name} was {before!r}, now it is {after!r}. "
                "Bring back what changed (a net's file, the version of Layertap), or extract and train again."
            )
    return request


def request_of(space: Space, views: int = 1) -> FeatureRequest:
    """The request that gives the features of `space` again, with the net that its rows say they come from.

    Raises
    ------
    UnsafeFile
        When that net is made by a function of the user's, or the images were changed by one that is not named.
    BadData
        When the space does not say which net it comes from, or its features cannot be computed any more.
    LayertapError
        When the net cannot be loaded.
    """
    nets = (part.provenance.get("net") for part in space.segments)
    try:
        net = net_from_config(next((config for config in nets if config), None))
    except UnsafeFile as error:
        raise UnsafeFile(
            f"the features of {space.folder.name} come from a net that is made by code of its own, which is run only "
            "where you name it, as `net='FILE.py:FUNCTION'`, in place of the space."
        ) from error
    except DamagedFile as error:
        raise BadData(f"{space.folder} does not say which net its features come from.") from error
    return request_for(space.spec, net, views)
