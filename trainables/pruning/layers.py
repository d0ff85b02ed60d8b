"""Which layers a pruning iteration scores and cuts: one, several by name, or all convolutions.

Layers whose channels go together (the convolutions that add into one residual stream) are one
*unit* at site ``group``: scored once, cut once. All others are units of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from trainables.errors import UserError
from trainables.models.group_batch_norm import plain_stand_ins
from trainables.pruning.surgery import check_site, dependency_graph, find_layer, is_branch
from trainables.trial_spec import is_several


@dataclass(frozen=True)
class Unit:
    """Channels that are scored and cut together."""

    layer: str  # what the plan calls it: the first of its members, in the order of the net
    site: str
    members: tuple[str, ...]  # of the layers that were named, those that have these channels


def layer_names(net: nn.Module, layer: str) -> list[str]:
    """The convolutions that ``Prune.layer`` (resolved) stands for, in the order of the net.

    Raises:
        UserError: one of them is not a convolution of this net.
    """
    convs = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    if layer == "all":
        return convs
    wanted = {name.strip() for name in layer.split(",")}
    for name in sorted(wanted):
        find_layer(net, name)
    return [name for name in convs if name in wanted]


def units(net: nn.Module, layer: str, site: str) -> tuple[Unit, ...]:
    """The units of the layers, in the order of the net; one layer alone is one unit."""
    names = layer_names(net, layer)
    if not is_several(layer) or site != "group":
        return tuple(Unit(name, site, (name,)) for name in names)
    coupled = coupled_layers(net, names)
    members: dict[frozenset[str], list[str]] = {}
    for name in names:
        members.setdefault(coupled[name], []).append(name)
    return tuple(Unit(each[0], site, tuple(each)) for each in members.values())


def coupled_layers(net: nn.Module, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """For each layer the convolutions (itself among them) that lose the same channels with it."""
    import torch_pruning

    with plain_stand_ins(net):
        graph = dependency_graph(net)
        name_of = {module: name for name, module in net.named_modules()}
        found = {}
        for name in names:
            group = graph.get_pruning_group(
                find_layer(net, name), torch_pruning.prune_conv_out_channels, idxs=[0]
            )
            found[name] = frozenset(
                name_of[dependency.target.module]
                for dependency, _ in group
                if isinstance(dependency.target.module, nn.Conv2d)
                and graph.is_out_channel_pruning_fn(dependency.handler)
            )
    return found


def check_layers(net: nn.Module, layer: str, site: str) -> None:
    """Whether every layer can be cut at the site, before anything is trained.

    Raises:
        UserError: no such layer, it has no such site, or its channels are coupled to others.
    """
    names = layer_names(net, layer)
    for name in names:
        check_site(net, name, site)
    by_graph = [name for name in names if site == "conv" and not is_branch(net, name)]
    for name, coupled in (coupled_layers(net, by_graph) if by_graph else {}).items():
        if len(coupled) > 1:
            raise UserError(f"channels of {name!r} are coupled to other layers: use site 'group'")
