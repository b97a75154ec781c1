"""`NetPart`: what is computed of a net, the layers that are read and the inputs that come; Keras is not imported here.

The net itself is cut by `transfer.nets.backbone.Backbone.cut`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice
from transfer.hardware import available_memory
from transfer.nets.catalogue import Net, net_from_config
from transfer.nets.costs import working_bytes
from transfer.request import FeatureRequest

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone


@dataclass(frozen=True)
class NetPart:
    """A part of a net.

    Attributes
    ----------
    net : Net
    size : (height, width)
        Of the net's input.
    readouts : tuple of (layer, pooling)
        The pooling as in `FeatureSpec.pooling_rule`.
    preprocessing : str
        See `FeatureSpec.preprocessing`.
    start : tuple of str
        The layers whose outputs the inputs are; none where they are pixels.
    """

    net: Net
    size: tuple[int, int]
    readouts: tuple[tuple[str, str], ...]
    preprocessing: str
    start: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: FeatureRequest, start: tuple[str, ...] = ()) -> NetPart:
        """What a request reads of its net."""
        specs = request.specs
        readouts = tuple((spec.layer, spec.pooling_rule) for spec in specs)
        return cls(request.net, specs[0].size, readouts, specs[0].preprocessing, start)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NetPart:
        """The part whose `as_config` another process has sent."""
        readouts = tuple((layer, pooling) for layer, pooling in config["readouts"])
        height, width = config["size"]
        net = net_from_config(config["net"], code=(config["net"]["name"],))  # named in the process that sent it
        return cls(net, (height, width), readouts, config["preprocessing"], tuple(config["start"]))

    def as_config(self) -> dict[str, Any]:
        """The same as JSON can hold it, for a process in any folder."""
        return {
            "net": self.net.as_config(),
            "size": self.size,
            "readouts": self.readouts,
            "preprocessing": self.preprocessing,
            "start": self.start,
        }

    def from_backbone(self, backbone: Backbone, channels: int) -> Any:
        """The part of a net that has been built, as a model of Keras with uint8 pixels, or the rows of layers, in.

        Parameters
        ----------
        channels : int
            Of the images that will come.

        Raises
        ------
        InvalidChoice
            When not even one image can be computed in the memory at hand.
        """
        readouts = [(backbone.find(layer), pooling) for layer, pooling in self.readouts]
        if self.start:
            model = backbone.cut_from(self.start, readouts)
        else:
            model = backbone.cut(readouts, self.preprocessing, channels)
        require_room(self.net.name, working_bytes(model))
        return model


def require_room(name: str, least: int) -> None:
    """Raise InvalidChoice when not even one image of a net can be computed in the memory at hand.

    Parameters
    ----------
    name : str
        Of the net.
    least : int
        Bytes that one image takes in the largest layer.
    """
    memory = available_memory()
    if memory is not None and least > memory:
        raise InvalidChoice(
            f"one image takes {least / 2**30:,.1f} GiB in the largest layer of {name}, and {memory / 2**30:,.1f} GiB "
            "of memory are free; choose a smaller `size`, or another net."
        )
