"""Which images excite a channel most.

Shape legend: N images, C channels, H height, W width, K images kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainables.pruning.statistics import Sites
from trainables.pruning.surgery import site_module

if TYPE_CHECKING:
    from trainables.portable import PortableModel

BATCH = 128


def excitation(
    portable: PortableModel,
    layer: str,
    site: str,
    image_NHWC: np.ndarray,
    group_N: np.ndarray | None = None,
) -> np.ndarray:
    """How strongly each channel of a site answers to each image, float32 (N, C).

    The mean over positions of the positive part of the feature map: what the layers after it see.

    Args:
        portable: the model before its channels were removed.
        layer: a convolution.
        site: where its channels are scored, as in ``Prune``.
        image_NHWC: uint8, as ``PortableModel.logits`` takes it.
        group_N: of each image, for models that need it.

    Raises:
        UserError: the layer has no such site, or a group is missing.
    """
    module = site_module(portable.model.net, layer, site)
    parts = []
    with Sites({layer: module}) as sites:
        for start in range(0, len(image_NHWC), BATCH):
            rows = slice(start, start + BATCH)
            groups = None if group_N is None else group_N[rows]
            portable.logits(image_NHWC[rows], groups, batch_size=BATCH)
            feature_NCHW = sites.output[layer].float()
            parts.append(feature_NCHW.clamp(min=0).mean((2, 3)).cpu().numpy())
    return np.concatenate(parts)


def most_exciting(excitation_NC: np.ndarray, channel: int, num: int) -> np.ndarray:
    """Rows of the ``num`` images that excite a channel most, the strongest first (K,)."""
    order_N = np.argsort(-excitation_NC[:, channel], kind="stable")
    return order_N[:num]
