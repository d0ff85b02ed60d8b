"""What several spaces are made of."""

from trainables.data.augment import Augment
from trainables.pruning.snnl import PAPER as PAPER_SNNL

LIGHT = Augment(crop=True, degrees=180, scale=(0.8, 1.2), brightness=32 / 255, saturation=0.5)
"""Geometry and colour of the published augmentation, without AutoAugment and Cutout."""

METHODS = (
    "vanilla",
    "adv_conf",
    "adv_rev",
    "domain_independent",
    "hsic",
    "mfd",
    "fair_adabn",
    "group_dro",
    "multi_exit",
    "obd",
    "fairprune",
)
"""Every baseline; all use the sweep's recipe, and those that derive share the vanilla root."""


CAREFUL = {"multi_exit": {"name": "multi_exit", "training": {"learning_rate": 0.01}}}
"""Exits have no normalisation: at the rate of the others their loss is not a number after one
epoch (two seeds, bf16).
"""

PAPER_ARM = {
    "criterion": {"name": "snnl"} | PAPER_SNNL,
    "ratio": 0.02,
    "site": "conv",
    "surgery": "weight_mask",
    "finetune_loss": "cross_entropy",
}
"""The published arm as its code runs it: each deviation from what is right is a switch of its own
(the SNNL's self-pair and order, the mask that leaves the bias alive, plain fine-tuning).
"""
