"""A residual block whose branch or output has fewer channels than its identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock


class IndexedBasicBlock(nn.Module):
    """Torchvision's ``BasicBlock`` with the same parameter names, after channels were cut from it.

    ``output_index`` says which of the identity's channels leave the block (site ``block``);
    ``branch_index`` at which of those the residual branch is added (site ``conv``). Neither is
    stored: both follow from the channel plan.
    """

    output_index: Tensor
    branch_index: Tensor

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = block.conv1, block.bn1, block.relu
        self.conv2, self.bn2, self.downsample = block.conv2, block.bn2, block.downsample
        index = torch.arange(block.conv2.out_channels, device=block.conv2.weight.device)
        self.register_buffer("output_index", index, persistent=False)
        self.register_buffer("branch_index", index.clone(), persistent=False)
        self.num_identity = len(index)

    def forward(self, feature_NCHW: Tensor) -> Tensor:
        """Identity plus branch, each on its kept channels."""
        identity = feature_NCHW if self.downsample is None else self.downsample(feature_NCHW)
        branch = self.relu(self.bn1(self.conv1(feature_NCHW)))
        branch = self.bn2(self.conv2(branch))
        if len(self.output_index) < self.num_identity:
            identity = identity.index_select(1, self.output_index)
        if len(self.branch_index) < identity.shape[1]:
            return self.relu(identity.index_add(1, self.branch_index, branch.to(identity.dtype)))
        return self.relu(branch + identity)
