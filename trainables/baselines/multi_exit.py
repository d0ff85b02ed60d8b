"""Shape legend: N images, K classes, E exits (the last is the net's own head)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from trainables.baselines.base import Baseline, Batch, cross_entropy
from trainables.models.classifier import Classifier, MapReader
from trainables.models.exits import (
    Exit,
    exit_logits,
    exit_sources,
    exits_of,
    exits_taken,
    source_channels,
)
from trainables.registry import baselines

VGG_WEIGHTS = (0.3, 0.45, 0.6, 0.75, 0.9)
RESNET_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0)


@baselines.register("multi_exit")
class MultiExit(Baseline):
    """Internal classifiers at four depths: what is easy is decided early, on fairer features.

    ME-CNN (Chiu et al., MICCAI 2023, arXiv 2306.14518): ``sum_e w_e CE_e`` over four exits and the
    net's own head. An image's logits are those of the first exit whose largest probability reaches
    ``threshold``, else the head's (shares and accuracy by threshold: ``fatefront exits``). Exits
    read the outputs of a ResNet's four stages, or of a VGG's last four pooling layers. All exits
    are cross-entropy, so ``finetune_loss: cross_entropy`` is the same loss.
    """

    name: ClassVar[str]
    plain_loss = True

    class Config(Baseline.Config):
        """Where images leave, and how the exits are weighed and built."""

        name: Literal["multi_exit"] = "multi_exit"
        threshold: float = Field(
            0.9, ge=0, description="probability from which an exit decides; above 1: none does"
        )
        weights: Literal["auto"] | tuple[float, float, float, float, float] = Field(
            "auto",
            description="of the four exits' and the head's losses; auto: 0.3, 0.45, 0.6, 0.75, "
            "0.9 for a VGG, 1 each for a ResNet",
        )
        padding: Literal[0, 1] = Field(
            1, description="of the exits' convolutions; 0, as published, needs larger maps"
        )
        paper_pooling: bool = Field(
            False, description="pool the exits' maps to 64 x 64, as published: slow, scales up"
        )

        @field_validator("weights")
        @classmethod
        def _weights(cls, value: str | tuple[float, ...]) -> str | tuple[float, ...]:
            if not isinstance(value, str) and (min(value) < 0 or value[-1] == 0):
                raise ValueError(
                    f"weights of exits must not be negative, the last above 0, but got {value}"
                )
            return value

    config: MultiExit.Config
    _num_channels: tuple[int, ...] = ()

    @classmethod
    def check_net(cls, config: Any, net: nn.Module) -> None:
        """The net must be a ResNet or a VGG.

        Raises:
            UserError: it is neither.
        """
        exit_sources(net)

    def adapt(self, model: Classifier) -> None:
        """Look up how many channels each exit will read.

        Raises:
            UserError: neither a ResNet nor a VGG.
        """
        self._num_channels = source_channels(model, exit_sources(model.net))

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        """The internal classifiers ``exit1`` to ``exit4``."""
        config, num_classes = self.config, self.task.num_classes
        exits = [
            Exit(num, num_classes, config.padding, config.paper_pooling)
            for num in self._num_channels
        ]
        return nn.ModuleDict({f"exit{e}": module for e, module in enumerate(exits, 1)})

    def feature_heads(self, model: Classifier) -> Sequence[MapReader]:
        """Each exit's first convolution reads a map of the net."""
        sources = exit_sources(model.net)
        return [MapReader(s, e.conv1) for s, e in zip(sources, exits_of(model), strict=True)]

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """Weighted sum of every exit's cross-entropy."""
        logits_ENK = exit_logits(model, batch.image_NCHW)
        return torch.stack(
            [
                weight * cross_entropy(logits_NK, batch.label_N)
                for weight, logits_NK in zip(self._weights(model), logits_ENK, strict=True)
            ]
        ).sum()

    def _weights(self, model: Classifier) -> tuple[float, ...]:
        if self.config.weights != "auto":
            return self.config.weights
        return RESNET_WEIGHTS if hasattr(model.net, "layer4") else VGG_WEIGHTS

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        """Logits (N, K) of the exit at which each image leaves."""
        logits_ENK = exit_logits(model, image_NCHW)
        exit_N = exits_taken(logits_ENK, self.config.threshold)
        # not take_along_dim, which torch.export ties to one number of images
        index_1NK = exit_N[None, :, None].expand(1, -1, logits_ENK.shape[2])
        return logits_ENK.gather(0, index_1NK)[0]
