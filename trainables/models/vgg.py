from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn

from trainables.models.base import Backbone
from trainables.registry import backbones


@backbones.register("vgg11")
class VGG11(Backbone):
    """VGG-11 (Simonyan and Zisserman 2015), plain, with its last linear layer replaced."""

    name: ClassVar[str]
    last_conv = "features.18"
    default_site = "conv"

    class Config(Backbone.Config):
        """No options of its own."""

        name: Literal["vgg11"] = "vgg11"

    @classmethod
    def construct(cls, config: Any, num_outputs: int, weights: Any) -> nn.Module:
        """Torchvision's net, built with ``num_outputs`` from the start."""
        from torchvision import models

        return models.vgg11(weights=None, num_classes=num_outputs)

    @classmethod
    def imagenet_weights(cls) -> Any:
        """ImageNet-1k V1, the only published set."""
        from torchvision import models

        return models.VGG11_Weights.IMAGENET1K_V1

    @classmethod
    def head_prefix(cls) -> str:
        """The last linear layer."""
        return "classifier.6."


@backbones.register("vgg11_bn")
class VGG11BN(VGG11):
    """VGG-11 with batch normalisation after every convolution."""

    name: ClassVar[str]
    last_conv = "features.25"

    class Config(Backbone.Config):
        """No options of its own."""

        name: Literal["vgg11_bn"] = "vgg11_bn"

    @classmethod
    def construct(cls, config: Any, num_outputs: int, weights: Any) -> nn.Module:
        """Torchvision's net, built with ``num_outputs`` from the start."""
        from torchvision import models

        return models.vgg11_bn(weights=None, num_classes=num_outputs)

    @classmethod
    def imagenet_weights(cls) -> Any:
        """ImageNet-1k V1, the only published set."""
        from torchvision import models

        return models.VGG11_BN_Weights.IMAGENET1K_V1
