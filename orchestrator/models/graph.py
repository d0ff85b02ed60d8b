"""A model's graph from images to logits, for formats that hold graphs.

Shape legend: N images, C colour channels, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from trainables.portable import PortableModel


def exportable(portable: PortableModel) -> torch.nn.Module:
    """A module from images scaled to [0, 1] (N, C, H, W), float32, to logits; it normalises by
    itself.
    """
    import torch

    from trainables.data.augment import normalisation

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mean, std = normalisation(portable.card.normalise)
            self.model = portable.model
            self.mean = torch.nn.Buffer(torch.tensor(mean).reshape(1, 3, 1, 1))
            self.std = torch.nn.Buffer(torch.tensor(std).reshape(1, 3, 1, 1))

        def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
            group_N = torch.full((image_NCHW.shape[0],), -1, dtype=torch.int64)
            normal_NCHW = (image_NCHW - self.mean) / self.std
            return portable.baseline.logits(self.model, normal_NCHW, group_N)

    return Net().cpu().eval()
