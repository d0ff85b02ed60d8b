"""Which features of an uncut net a cut one still has.

Shape legend: F features before the last linear layer.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from trainables.models.classifier import Classifier
from trainables.pruning.surgery import ChannelPlan, apply_plan


def kept_features(model: Classifier, plan: ChannelPlan) -> Tensor:
    """Numbers (ascending) of the features of an uncut ``model`` that are left by the plan's cuts.

    They are read off a twin whose head holds the number of each input: whatever the site and the
    backbone, a cut takes the head's columns along. A net whose head follows other linear layers
    (VGG) keeps all.
    """
    twin = Classifier(copy.deepcopy(model.net)).requires_grad_(True)
    weight = twin.head.weight
    weight.data.copy_(torch.arange(weight.shape[1], device=weight.device).expand_as(weight))
    apply_plan(twin.net, plan)
    return twin.head.weight.detach()[0].long()
