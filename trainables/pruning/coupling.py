"""The parameters that go with a channel: exactly what a cut at the site removes from the model.

Shape legend: C channels, P positions along one axis of a parameter, X all other elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.models.classifier import Classifier
from trainables.models.group_batch_norm import GroupBatchNorm2d, plain_stand_ins
from trainables.pruning.surgery import (
    NORMS,
    Readers,
    block_readers,
    find_layer,
    is_branch,
    num_channels,
    pruning_group,
    site_module,
)

Role = Literal["filter", "bias", "norm", "reader"]
"""Rows of a convolution; its bias; scale and shift of a BatchNorm; columns of what reads it."""


@dataclass(frozen=True)
class CoupledParameter:
    """One parameter of the model that loses a slice with every channel."""

    name: str  # as in ``model.named_parameters()``
    value: Tensor
    dim: int  # the axis that is cut
    role: Role
    channel_P: Tensor  # which channel each position along the axis goes with
    scale_C: Tensor | None = None  # of a filter: what its BatchNorm multiplies the channel by

    def per_channel(self, element: Tensor) -> Tensor:
        """Sum of a tensor of the parameter's shape over each channel's slice (float64, CPU)."""
        part_PX = element.detach().movedim(self.dim, 0).reshape(len(self.channel_P), -1)
        sum_P = part_PX.sum(1, dtype=torch.float64)
        sum_C = torch.zeros(int(self.channel_P.max()) + 1, dtype=torch.float64)
        return sum_C.index_add_(0, self.channel_P, sum_P.cpu())


def coupled_parameters(
    model: Classifier, layer: str, site: str, heads: Readers = ()
) -> tuple[CoupledParameter, ...]:
    """All parameters that lose a slice when a channel of the layer is cut at the site."""
    net = model.net
    if site == "group" or not is_branch(net, layer):
        return _by_graph(model, layer, heads)
    every_C = torch.arange(num_channels(net, layer))
    own = [find_layer(net, layer), site_module(net, layer, "conv")]
    readers = block_readers(net, layer, heads) if site == "block" else []
    name_of = {module: name for name, module in model.named_modules()}
    return tuple(
        parameter
        for number, module in enumerate([*own, *readers])
        for parameter in _slices(model, name_of[module], number < len(own), every_C)
    )


def _by_graph(
    model: Classifier, layer: str, heads: Readers
) -> tuple[CoupledParameter, ...]:
    every_C = torch.arange(num_channels(model.net, layer))
    with plain_stand_ins(model.net):
        name_of = {module: name for name, module in model.named_modules()}
        group = pruning_group(model.net, layer, range(len(every_C)), heads)
        items = [group[number] for number in range(len(group))]
        found = [
            (
                name_of[item.dep.target.module],
                "out" in item.dep.handler.__name__,
                torch.tensor(list(item.root_idxs))[torch.argsort(torch.tensor(list(item.idxs)))],
            )
            for item in items
            if item.dep.target.module in name_of
        ]
    linear = [head for head in heads if isinstance(head, nn.Linear)]
    readers = [model.get_submodule(name) for name, is_output, _ in found if not is_output]
    # further heads are cut where the net's own loses one column a channel
    if any(isinstance(m, nn.Linear) and m.in_features == len(every_C) for m in readers):
        found += [(name_of[head], False, every_C) for head in linear]
    return tuple(
        parameter
        for name, is_output, channel_P in found
        for parameter in _slices(model, name, is_output, channel_P)
    )


def _slices(
    model: Classifier, name: str, is_output: bool, channel_P: Tensor
) -> Sequence[CoupledParameter]:
    """What one module loses: its rows (``is_output``) or its columns."""
    module = model.get_submodule(name)
    if isinstance(module, NORMS):
        dim = 1 if isinstance(module, GroupBatchNorm2d) else 0
        return [
            CoupledParameter(f"{name}.{key}", value, dim, "norm", channel_P)
            for key, value in module.named_parameters(recurse=False)
        ]
    assert isinstance(module, nn.Linear | nn.Conv2d)
    if not is_output:
        return [CoupledParameter(f"{name}.weight", module.weight, 1, "reader", channel_P)]
    scale_C = _norm_scale(model.net, name.removeprefix("net."))
    own = [CoupledParameter(f"{name}.weight", module.weight, 0, "filter", channel_P, scale_C)]
    if module.bias is not None:
        own.append(CoupledParameter(f"{name}.bias", module.bias, 0, "bias", channel_P))
    return own


def _norm_scale(net: nn.Module, layer: str) -> Tensor | None:
    """|gamma| / sqrt(running variance + eps) of the BatchNorm after a convolution; the mean over
    groups where each has its own.
    """
    norm = site_module(net, layer, "conv")
    if not isinstance(norm, NORMS):
        return None
    assert norm.running_var is not None
    scale = norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
    return scale.mean(0) if scale.dim() == 2 else scale
