"""Internal classifiers of a net, and where each image leaves it.

ME-CNN (Chiu et al., MICCAI 2023, arXiv 2306.14518).

Shape legend: N images, C channels, H height, W width, K classes, E exits (the last is the net's
own head), G groups; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.metrics.confusion import confusion_counts
from trainables.models.classifier import Classifier

NUM_INTERNAL = 4
THRESHOLDS = (0.8, 0.85, 0.9, 0.95, 0.99, 0.999)
"""Those of the paper."""


class Exit(nn.Module):
    """An internal classifier: two convolutions and a linear layer on the mean map.

    Nothing between them is nonlinear, as published.
    """

    def __init__(
        self, num_channels: int, num_classes: int, padding: int, paper_pooling: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_channels, 64, 3, padding=padding)
        self.pool = nn.AdaptiveAvgPool2d(64) if paper_pooling else nn.Identity()
        self.conv2 = nn.Conv2d(64, 32, 3, padding=padding)
        self.head = nn.Linear(32, num_classes)
        self.min_size = 1 if padding else 3 if paper_pooling else 5  # of a map, in pixels

    def forward(self, feature_NCHW: Tensor) -> Tensor:
        """Logits (N, K)."""
        hidden_NCHW = self.conv2(self.pool(self.conv1(feature_NCHW)))
        return self.head(hidden_NCHW.mean((2, 3)))


def exit_sources(net: nn.Module) -> tuple[str, ...]:
    """Names of the modules whose outputs the four exits read.

    Raises:
        UserError: neither a ResNet nor a VGG.
    """
    stages = tuple(f"layer{s}" for s in range(1, NUM_INTERNAL + 1))
    if all(hasattr(net, stage) for stage in stages):
        return stages
    features = getattr(net, "features", nn.Sequential()).named_children()
    pools = tuple(f"features.{n}" for n, m in features if isinstance(m, nn.MaxPool2d))
    if len(pools) < NUM_INTERNAL:
        raise UserError(
            f"baseline multi_exit needs {NUM_INTERNAL} stages (ResNet) or pooling layers (VGG) "
            f"but {type(net).__name__} has not: use backbone resnet18, vgg11 or vgg11_bn"
        )
    return pools[-NUM_INTERNAL:]


def exit_logits(model: Classifier, image_NCHW: Tensor) -> Tensor:
    """Logits of every exit and of the head: float32 (E, N, K).

    Raises:
        UserError: the maps are too small for convolutions without padding.
    """
    exits, sources = exits_of(model), exit_sources(model.net)
    maps, output_NK = model.forward_maps(image_NCHW, sources)
    for source, reader, feature_NCHW in zip(sources, exits, maps, strict=True):
        height, width = feature_NCHW.shape[2:]
        if min(height, width) < reader.min_size:
            raise UserError(
                f"baseline multi_exit: padding 0 needs maps of {reader.min_size} x "
                f"{reader.min_size} or more but those of {source} are {height} x {width}: use "
                "padding 1 or larger images"
            )
    parts = [reader(feature) for reader, feature in zip(exits, maps, strict=True)]
    return torch.stack([part.float() for part in (*parts, output_NK)])


def exits_taken(logits_ENK: Tensor, threshold: float) -> Tensor:
    """Number of the exit (from 0) at which each image leaves; E - 1 is the head.

    The first whose largest softmax is at least ``threshold``. The released code takes the most
    confident one where none is; the paper's rule, the last, is followed here.
    """
    sure_EN = logits_ENK.float().softmax(2).amax(2) >= threshold
    sure_EN[-1] = True
    return sure_EN.int().argmax(0)  # the first of equal maxima


@dataclass(frozen=True)
class ExitCounts:
    """Who leaves where at one threshold, as numbers of images of each group and exit (G, E), and
    the confusion counts of the predictions made there (group, true class, predicted class).
    """

    left_GE: np.ndarray
    right_GE: np.ndarray  # of those, how many get their true class
    count_GCC: np.ndarray


def exit_counts(
    logits_ENK: np.ndarray,
    label_N: np.ndarray,
    group_N: np.ndarray,
    threshold: float,
    num_groups: int,
) -> ExitCounts:
    """Send each image through the exits and count, group by group.

    Args:
        logits_ENK: of every exit, the head last, float32.
        label_N: true classes.
        group_N: groups in [0, G), -1 where unknown: these images are left out.
        threshold: as ``exits_taken`` reads it.
        num_groups: G.

    Raises:
        ValueError: lengths differ or a value is out of its range.
    """
    num_exits, num, num_classes = logits_ENK.shape
    exit_N = exits_taken(torch.from_numpy(logits_ENK), threshold).numpy()
    # as a node stores its logits, so that the same class is predicted
    prediction_N = logits_ENK[exit_N, np.arange(num)].astype(np.float16).argmax(1)
    left_GE, right_GE = (np.zeros((num_groups, num_exits), dtype=np.int64) for _ in range(2))
    known_N = group_N >= 0
    np.add.at(left_GE, (group_N[known_N], exit_N[known_N]), 1)
    known_N = known_N & (prediction_N == label_N)
    np.add.at(right_GE, (group_N[known_N], exit_N[known_N]), 1)
    count_GCC = confusion_counts(
        label_N, prediction_N, group_N, num_classes=num_classes, num_groups=num_groups
    )
    return ExitCounts(left_GE, right_GE, count_GCC)


def exits_of(model: Classifier) -> list[Exit]:
    """The internal classifiers, first to last."""
    return [m for m in model.extra.values() if isinstance(m, Exit)]


@torch.no_grad()
def source_channels(model: Classifier, sources: Sequence[str]) -> tuple[int, ...]:
    """Channels of the maps the exits read, by running the net on a black image."""
    training, device = model.training, next(model.parameters()).device
    maps, _ = model.eval().forward_maps(torch.zeros(1, 3, 64, 64, device=device), sources)
    model.train(training)
    return tuple(feature_NCHW.shape[1] for feature_NCHW in maps)
