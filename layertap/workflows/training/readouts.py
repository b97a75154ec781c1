"""Readouts: the layers of several nets whose features a sweep judges, their names, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from feature_cache.errors import InvalidChoice, unknown
from layertap.workflows.extract import as_net
from transfer.nets.catalogue import Net
from transfer.nets.costs import flops
from transfer.request import FeatureRequest

if TYPE_CHECKING:
    from layertap.runs import Run

Size = tuple[int, int]
OfNets = str | Mapping[str, str | None] | None  # a value for all nets, or one for each
NamedNet = Union[Net, "Run", str, Path]


@dataclass(frozen=True)
class Readout:
    """A layer of a net, with the request that its features belong to, and the net as it was named."""

    request: FeatureRequest
    layer: str
    net: str

    @property
    def pixels_and_pooling(self) -> tuple[Any, ...]:
        """The pooling and the input size, which are the same for all layers that are joined."""
        return self.request.pooling, self.request.size

    @property
    def space(self) -> str:
        """The name of the space of the cache that holds the features."""
        return next(spec.folder_name for spec in self.request.specs if spec.layer == self.layer)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the layer: without its net, and with it."""
        return self.layer, f"{self.request.net.name}:{self.layer}"


def requests_of(
    nets: Sequence[NamedNet], weights: OfNets, preprocessing: OfNets, seed: int, pixels: Mapping[str, Any]
) -> dict[str, FeatureRequest]:
    """A request for features of each net, by the name of the net.

    Parameters
    ----------
    nets : sequence of str, Path, Net or Run
        See `layertap.workflows.extract.as_net`.
    weights, preprocessing : str, or mapping of str to str
        A value for all nets, or one for each name of a net.
    seed : int
        The seed of random weights.
    pixels : mapping
        Further fields of `FeatureRequest`.

    Raises
    ------
    InvalidChoice
        When a mapping names a net that is not among `nets`.
    """
    names = [_name_of(net) for net in nets]
    for parameter, values in (("weights", weights), ("preprocessing", preprocessing)):
        for name in values if isinstance(values, Mapping) else ():
            if name not in names:
                raise unknown(f"`{parameter}` are for nets of the sweep, which has no net", name, names)
    built = {
        name: as_net(net, weights=_of(weights, name), preprocessing=_of(preprocessing, name), seed=seed)
        for name, net in zip(names, nets, strict=True)
    }
    return {name: FeatureRequest(net, **pixels) for name, net in built.items()}


def _of(values: OfNets, name: str) -> str | None:
    """The value for the net called `name`."""
    return values.get(name) if isinstance(values, Mapping) else values


def _name_of(net: NamedNet) -> str:
    """The name of a net in this sweep: as it was given, or the folder of a run."""
    if isinstance(net, Net):
        return net.name
    return str(net) if isinstance(net, str | Path) else str(net.folder)


def all_readouts(
    requests: Mapping[str, FeatureRequest],
    layers: Sequence[str],
    pools: Sequence[str],
    sizes: Sequence[Size],
    join: Sequence[str],
) -> dict[str, list[Readout]]:
    """The features that a sweep judges, by name: a list of one readout, or of those that are joined.

    Parameters
    ----------
    requests : mapping of str to FeatureRequest
        A request for each net, by its name.
    layers : sequence of str
        Layers of the net; of several nets, each as ``NET:LAYER``. A net without any has its usual readout.
    pools, sizes : sequence
        Poolings and input sizes, in all combinations; by default those of the requests.
    join : sequence of str
        Layers whose features are also judged side by side, as ``L+M``.

    Raises
    ------
    InvalidChoice
        When a layer belongs to no net, or those to be joined are not among the layers.
    """
    layers_of = _layers_of_nets(list(requests), layers)
    singles: list[Readout] = []
    all_sizes: Sequence[Size | None] = sizes or [None]
    all_pools: Sequence[str | None] = pools or [None]
    for (net, base), size in itertools.product(requests.items(), all_sizes):
        sized = replace(base, layers=layers_of[net] or base.layers, size=base.size if size is None else size)
        for pool in all_pools:
            request = replace(sized, pooling=base.pooling if pool is None else pool)
            request, _ = request.resolve()
            sized = replace(sized, prefix_tokens=request.prefix_tokens)  # so that the net is built once for all
            singles += [Readout(request, spec.layer, net) for spec in request.specs]
    several = {"net": len(requests) > 1, "size": len(sizes) > 1, "pool": len(pools) > 1}
    named = {_name([readout], several): [readout] for readout in singles}
    for text in join:
        for joined in _joined(text, singles, several["net"]):
            named[_name(joined, several)] = joined
    return named


def _layers_of_nets(nets: Sequence[str], layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The layers of each net."""
    layers_of: dict[str, tuple[str, ...]] = dict.fromkeys(nets, ())
    for layer in layers:
        of_nets = [net for net in nets if layer.startswith(f"{net}:")]
        if of_nets:
            net = max(of_nets, key=len)  # nets may have colons of their own
            layers_of[net] += (layer.removeprefix(f"{net}:"),)
        elif len(nets) == 1:
            layers_of[nets[0]] += (layer,)
        else:
            raise InvalidChoice(
                f"`layers={layer!r}`: of several nets, name one as NET:LAYER, NET one of {', '.join(nets)}."
            )
    return layers_of


def _joined(text: str, singles: Sequence[Readout], several_nets: bool) -> list[list[Readout]]:
    """The readouts that ``L+M`` joins, for each combination of pooling and size."""
    names, all_joined = text.split("+"), []
    for key in dict.fromkeys(readout.pixels_and_pooling for readout in singles):
        parts = [[one for one in singles if one.pixels_and_pooling == key and name in one.names] for name in names]
        if len(names) < 2 or any(len(part) != 1 for part in parts):
            known = ", ".join(dict.fromkeys(one.names[several_nets] for one in singles))
            raise InvalidChoice(f"`join={text!r}`: give two or more of {known}, with + between them.")
        all_joined.append([part[0] for part in parts])
    return all_joined


def _name(readouts: Sequence[Readout], several: dict[str, bool]) -> str:
    """A name that contains whatever differs within the sweep."""
    request = readouts[0].request
    text = "+".join(one.names[several["net"]] for one in readouts)
    text += f" {request.pooling}" if several["pool"] else ""
    return text + (f" {request.size[0]}x{request.size[1]}" if several["size"] and request.size else "")


def costs(readouts: dict[str, list[Readout]]) -> dict[str, float]:
    """The cost of computing each of the features: billions of operations of the nets for an image.

    The nets are built, without their weights.

    Parameters
    ----------
    readouts : dict
        See `all_readouts`.
    """
    backbones: dict[tuple[Any, ...], Any] = {}
    for one in itertools.chain.from_iterable(readouts.values()):
        request = replace(one.request, layers=tuple(dict.fromkeys((*one.request.layers, one.layer))))
        key = request.net.name, request.size
        if key not in backbones:
            backbones[key] = request.build_outline()
    gflops = {}
    for name, parts in readouts.items():
        layers: dict[tuple[Any, ...], list[str]] = {}
        for one in parts:
            layers.setdefault((one.request.net.name, one.request.size), []).append(one.layer)
        gflops[name] = sum(flops(*(backbones[key].taps[layer] for layer in of)) for key, of in layers.items()) / 1e9
    return gflops
