from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn

from trainables.models.base import Backbone
from trainables.registry import backbones


@backbones.register("resnet18")
class ResNet18(Backbone):
    """ResNet-18 (He et al. 2016) with its last linear layer replaced."""

    name: ClassVar[str]
    last_conv = "layer4.1.conv2"
    default_site = "block"

    class Config(Backbone.Config):
        """No options of its own."""

        name: Literal["resnet18"] = "resnet18"

    @classmethod
    def construct(cls, config: Any, num_outputs: int, weights: Any) -> nn.Module:
        """Torchvision's net, built with ``num_outputs`` from the start."""
        from torchvision import models

        return models.resnet18(weights=None, num_classes=num_outputs)

    @classmethod
    def imagenet_weights(cls) -> Any:
        """ImageNet-1k V1, the only published set."""
        from torchvision import models

        return models.ResNet18_Weights.IMAGENET1K_V1

    @classmethod
    def head_prefix(cls) -> str:
        """The last linear layer."""
        return "fc."
