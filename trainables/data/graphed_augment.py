"""Augmentation of small batches on a GPU as one launch.

Augmenting a batch is some sixty small kernels. For a small batch their launches cost the CPU more
time than the GPU takes for the work, and the training step that follows waits for them. Recorded
once as a CUDA graph, the same kernels on the same numbers are started by one call: the images are
equal to the bit.

Shape legend: N images of a batch, A images of the array, C channels, S image size, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.augment import Augment, AugmentDraws, Channels, apply_train

MOST_PIXELS = 1 << 23
"""Of a batch; a larger one keeps a GPU busy for longer than its launches take, and the graph would
keep its memory.
"""
MOST_KEPT = 4

_kept: dict[object, GraphedAugment] = {}
"""A reused worker records a graph once, not once a trial."""


def can_be_graphed(augment: Augment, num_images: int, image_size: int) -> bool:
    """Whether what is launched does not depend on the draws, and it pays."""
    is_fixed = augment.autoaugment == "none" and not (
        augment.warps and augment.interpolation == "mixed"
    )
    return is_fixed and num_images * image_size**2 <= MOST_PIXELS


class GraphedAugment:
    """``apply_train`` of ``num_images`` images of an array on a GPU, recorded once.

    Args:
        images_AHWC: uint8, on a GPU; stays there as long as the graph.
        augment: as ``can_be_graphed`` allows.
        packed_NP: parameters of some batch, for their shape (``AugmentDraws.prepared``).
        image_size: S.
        mean, std: see ``normalisation``.
        layout: applied to the augmented images.
    """

    def __init__(
        self,
        images_AHWC: Tensor,
        augment: Augment,
        packed_NP: Tensor,
        image_size: int,
        mean: Channels,
        std: Channels,
        layout: Callable[[Tensor], Tensor],
    ) -> None:
        self._row_N = torch.zeros(len(packed_NP), dtype=torch.int64, device=packed_NP.device)
        self._packed_NP = packed_NP.clone()
        # which numbers were drawn is in ``packed``; only their count is looked at
        draws = AugmentDraws(torch.empty(len(packed_NP), 0), self._packed_NP)

        def augmented() -> Tensor:
            image_NHWC = images_AHWC[self._row_N]
            return layout(
                apply_train(augment, image_NHWC, draws, image_size=image_size, mean=mean, std=std)
            )

        aside = torch.cuda.Stream(packed_NP.device)
        aside.wait_stream(torch.cuda.current_stream(packed_NP.device))
        with torch.cuda.stream(aside):
            augmented()  # what is set up at the first call does not belong into the graph
        torch.cuda.current_stream(packed_NP.device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._image_NCHW = augmented()

    def __call__(self, row_N: Tensor, packed_NP: Tensor) -> Tensor:
        """Images (N, C, S, S) of these rows of the array with these parameters."""
        self._row_N.copy_(row_N)
        self._packed_NP.copy_(packed_NP)
        self._graph.replay()
        return self._image_NCHW.clone()  # the next batch is written to the same place


@torch.no_grad()
def graphed_augment(
    images_AHWC: Tensor,
    augment: Augment,
    packed_NP: Tensor,
    image_size: int,
    mean: Channels,
    std: Channels,
    layout: Callable[[Tensor], Tensor],
) -> GraphedAugment:
    """The recorded augmentation of such batches, recorded now if it was not before."""
    key = (
        images_AHWC.data_ptr(), images_AHWC.shape, augment.model_dump_json(), packed_NP.shape,
        packed_NP.device, image_size, mean, std, layout,
    )  # fmt: skip
    if key not in _kept:
        while len(_kept) >= MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = GraphedAugment(
            images_AHWC, augment, packed_NP, image_size, mean, std, layout
        )
    return _kept[key]
