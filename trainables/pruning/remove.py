"""One pruning iteration's removal: which channels go, and how the model and its plan change."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from trainables.baselines.base import Baseline
from trainables.models.classifier import Classifier
from trainables.pruning.base import lowest, num_to_remove
from trainables.pruning.surgery import ChannelPlan, cut, extend_plan, num_channels
from trainables.trial_spec import Prune


def choose(prune: Prune, plan: ChannelPlan, score_C: Tensor) -> list[int]:
    """Positions (among the channels the layer has now) that this iteration removes."""
    entry = plan.get(prune.layer, {"num_channels": len(score_C), "removed": [], "masked": []})
    masked = entry.get("masked", [])
    score_C = score_C.clone()
    score_C[masked] = torch.inf  # masked channels are still there; they must not be picked again
    num_left = entry["num_channels"] - len(entry["removed"]) - len(masked)
    return lowest(score_C, num_to_remove(prune.ratio, entry["num_channels"], num_left))


def remove(
    model: Classifier, prune: Prune, plan: ChannelPlan, removed: list[int], baseline: Baseline
) -> ChannelPlan:
    """Cut (or mask) the channels in place; returns the plan that includes them."""
    total = num_channels(model.net, prune.layer)
    if prune.surgery == "cut":
        masks = _masks_after_cut(model, prune, removed, baseline)
        cut(model.net, prune.layer, prune.site, removed, baseline.feature_heads(model))
        model.masks = masks
        return extend_plan(plan, prune.layer, prune.site, removed, total)
    # the published way: the filter's weights are zero for good, its bias and what follows live on
    name = f"net.{prune.layer}.weight"
    weight = model.get_parameter(name)
    mask = model.masks.get(name, torch.ones_like(weight)).to(weight.device)
    mask[removed] = 0
    model.masks[name] = mask
    model.apply_masks()
    entry = plan.get(
        prune.layer, {"site": prune.site, "num_channels": total, "removed": [], "masked": []}
    )
    return plan | {prune.layer: entry | {"masked": sorted({*entry["masked"], *removed})}}


def _masks_after_cut(
    model: Classifier, prune: Prune, removed: list[int], baseline: Baseline
) -> dict[str, Tensor]:
    """The masks of the weights that are left: cut like the weights, in a twin that holds them."""
    if not model.masks:
        return {}
    twin = copy.deepcopy(model)
    for name, mask in model.masks.items():
        twin.get_parameter(name).data.copy_(mask)
    cut(twin.net, prune.layer, prune.site, removed, baseline.feature_heads(twin))
    return {name: twin.get_parameter(name).detach() for name in model.masks}
