"""Batch normalisation with statistics and affine parameters of each group's own.

FairAdaBN (Xu et al., MICCAI 2023, section 2.2): all other layers are shared by the groups.

Shape legend: N images, C channels, H height, W width, D groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

MIN_IMAGES = 2
"""Images of a group in a batch below which the group is normalised by its running statistics."""


class GroupIndex:
    """Which group each image of the batch belongs to; one is shared by all norms of a net."""

    group_N: Tensor | None = None


class GroupBatchNorm2d(nn.Module):
    """One ``nn.BatchNorm2d`` a group: each image is normalised by its own group's.

    In training a group's statistics are those of its own images in the batch. A group with fewer
    than :data:`MIN_IMAGES` of them there keeps its running statistics and is normalised by them.
    Images of unknown group (-1) enter no statistics and are normalised as group 0's: what they
    give must enter no loss and no metric. Nothing here waits for the device.
    """

    weight: nn.Parameter  # (D, C), and so are all others
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d, num_groups: int, index: GroupIndex) -> None:
        """Every group starts from a copy of ``norm``.

        Raises:
            ValueError: ``norm`` has no affine parameters, running statistics or momentum.
        """
        super().__init__()
        if norm.running_mean is None or norm.running_var is None or not norm.affine:
            raise ValueError("a BatchNorm for each group needs running statistics and affine=True")
        if norm.momentum is None:
            raise ValueError("a BatchNorm for each group needs a momentum")
        self.num_features, self.eps, self.momentum = norm.num_features, norm.eps, norm.momentum
        self.index = index

        def copies(value_C: Tensor) -> Tensor:
            return value_C.detach().expand(num_groups, -1).clone()

        self.weight = nn.Parameter(copies(norm.weight))
        self.bias = nn.Parameter(copies(norm.bias))
        self.register_buffer("running_mean", copies(norm.running_mean))
        self.register_buffer("running_var", copies(norm.running_var))

    def forward(self, feature_NCHW: Tensor) -> Tensor:
        """The normalised maps, in their own type; the arithmetic is float32.

        Raises:
            RuntimeError: nobody said which group the images belong to.
        """
        group_N = self.index.group_N
        if group_N is None or len(group_N) != len(feature_NCHW):
            raise RuntimeError(
                "this net has one BatchNorm per group: call the classifier with each image's group"
            )
        value_NCHW = feature_NCHW.float()
        if self.training:
            mean_DC, var_DC = self._batch_statistics(value_NCHW, group_N)
        else:
            mean_DC, var_DC = self.running_mean, self.running_var
        scale_DC = self.weight * torch.rsqrt(var_DC + self.eps)
        shift_DC = self.bias - mean_DC * scale_DC
        own_N = group_N.clamp(min=0)
        scale_NC11, shift_NC11 = scale_DC[own_N][..., None, None], shift_DC[own_N][..., None, None]
        return torch.addcmul(shift_NC11, value_NCHW, scale_NC11).to(feature_NCHW.dtype)

    def _batch_statistics(self, value_NCHW: Tensor, group_N: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (D, C) to normalise by; the running ones take the batch's in."""
        groups_D1 = torch.arange(len(self.weight), device=group_N.device)[:, None]
        member_DN = (group_N == groups_D1).float()
        num_D1 = member_DN.sum(1, keepdim=True)
        share_DN1 = (member_DN / num_D1.clamp(min=1))[..., None]
        var_NC, mean_NC = torch.var_mean(value_NCHW, dim=(2, 3), correction=0)
        # sums, not products of matrices, which autocast would round to bf16
        mean_DC = (share_DN1 * mean_NC).sum(1)
        # within images plus between them: no difference of two large squares
        spread_NC = var_NC + (mean_NC - mean_DC[group_N.clamp(min=0)]).square()
        var_DC = (share_DN1 * spread_NC).sum(1)
        enough_D1 = num_D1 >= MIN_IMAGES
        used_DC = (
            torch.where(enough_D1, mean_DC, self.running_mean),
            torch.where(enough_D1, var_DC, self.running_var),
        )
        with torch.no_grad():
            num_values_D1 = num_D1 * (value_NCHW.shape[2] * value_NCHW.shape[3])
            unbiased_DC = var_DC * num_values_D1 / (num_values_D1 - 1).clamp(min=1)
            rate_D1 = self.momentum * enough_D1
            self.running_mean.lerp_(mean_DC, rate_D1.expand_as(mean_DC))
            self.running_var.lerp_(unbiased_DC, rate_D1.expand_as(var_DC))
        return used_DC

    def of_group(self, group: int) -> nn.BatchNorm2d:
        """The ordinary BatchNorm of one group."""
        norm = nn.BatchNorm2d(
            self.num_features, self.eps, self.momentum, device=self.weight.device
        ).train(self.training)
        own = {
            "weight": self.weight, "bias": self.bias,
            "running_mean": self.running_mean, "running_var": self.running_var,
        }  # fmt: skip
        norm.load_state_dict({name: v[group].detach() for name, v in own.items()}, strict=False)
        return norm

    def keep_channels(self, keep: Tensor) -> None:
        """Keep the channels at these positions only, for every group."""
        keep = keep.to(self.weight.device)
        for name in ("weight", "bias"):
            old = getattr(self, name)
            value = old.detach().index_select(1, keep)
            setattr(self, name, nn.Parameter(value, requires_grad=old.requires_grad))
        self.running_mean = self.running_mean.index_select(1, keep)
        self.running_var = self.running_var.index_select(1, keep)
        self.num_features = len(keep)


def _norms(net: nn.Module) -> dict[str, GroupBatchNorm2d]:
    return {n: m for n, m in net.named_modules() if isinstance(m, GroupBatchNorm2d)}


def split_norms(net: nn.Module, num_groups: int) -> None:
    """Put a BatchNorm for each group in the place of every ``nn.BatchNorm2d``."""
    index = GroupIndex()
    norms = {n: m for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, norm in norms.items():
        net.set_submodule(name, GroupBatchNorm2d(norm, num_groups, index).train(norm.training))


@contextmanager
def groups_of(net: nn.Module, group_N: Tensor) -> Iterator[None]:
    """Within the context the net's norms know the group of each image; nothing where it has
    none.
    """
    index = next((norm.index for norm in _norms(net).values()), GroupIndex())
    before, index.group_N = index.group_N, group_N
    try:
        yield
    finally:
        index.group_N = before


@contextmanager
def plain_stand_ins(net: nn.Module) -> Iterator[None]:
    """Within the context an ordinary BatchNorm stands for each one with groups.

    A dependency graph knows only those. Channels that are cut from a stand-in meanwhile are cut
    from what it stands for.
    """
    norms = _norms(net)
    stand_ins = {}
    for name, norm in norms.items():
        stand_in = stand_ins[name] = norm.of_group(0)
        # each channel carries its own position, so that those left tell which they were
        position = torch.arange(norm.num_features, device=norm.weight.device)
        stand_in.running_mean = position.to(norm.weight.dtype)
        net.set_submodule(name, stand_in)
    try:
        yield
    finally:
        for name, norm in norms.items():
            keep = cast(Tensor, stand_ins[name].running_mean).long()
            if len(keep) < norm.num_features:
                norm.keep_channels(keep)
            net.set_submodule(name, norm)
