"""One pruning iteration's removal: which channels go, and how the model and its plan change.

Shape legend: C channels of one layer (or of the layers coupled to it).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.baselines.base import Baseline
from trainables.models.classifier import Classifier
from trainables.pruning.base import lowest, num_to_remove
from trainables.pruning.layers import Unit, units
from trainables.pruning.surgery import ChannelPlan, cut, extend_plan, num_channels
from trainables.trial_spec import Prune


def choose(
    prune: Prune, plan: ChannelPlan, scores: Mapping[str, Tensor]
) -> dict[str, list[int]]:
    """Layer -> positions (among the channels it has now) that this iteration removes.

    ``per_layer`` takes the ratio of each layer. ``global`` takes as many in all, the lowest of one
    ranking of z-scores: each layer's scores minus their mean, over their standard deviation, so
    that neither the scale nor the level of a layer's scores decides. Each layer keeps its floor.
    """
    entries = {layer: _entry(plan, layer, len(score_C)) for layer, score_C in scores.items()}
    usable: dict[str, Tensor] = {}
    for layer, score_C in scores.items():
        usable[layer] = score_C.clone()
        # masked channels are still there; they must not be picked again
        usable[layer][entries[layer].get("masked", [])] = torch.inf
    left = {layer: int(score_C.isfinite().sum()) for layer, score_C in usable.items()}
    spare = {
        layer: max(left[layer] - num_kept(prune, entry["num_channels"]), 0)
        for layer, entry in entries.items()
    }
    wanted = {
        layer: num_to_remove(prune.ratio, entry["num_channels"], left[layer])
        for layer, entry in entries.items()
    }
    if prune.ranking == "global":
        return _lowest_of_all(usable, sum(wanted.values()), spare)
    return {
        layer: lowest(score_C, min(wanted[layer], spare[layer]))
        for layer, score_C in usable.items()
    }


def num_kept(prune: Prune, num_original: int) -> int:
    """Channels that always stay: the floor's share of the original ones, at least one."""
    return max(1, math.ceil(prune.share_kept * num_original - 1e-9))


def _lowest_of_all(
    usable: Mapping[str, Tensor], num: int, spare: Mapping[str, int]
) -> dict[str, list[int]]:
    """The lowest z-scores over all layers, ties in the order of layers and positions; where a
    layer has no channel to spare any more, the next lowest elsewhere.
    """
    ranking = sorted(
        (z, number, position)
        for number, score_C in enumerate(usable.values())
        for position, z in enumerate(_z_scores(score_C).tolist())
        if math.isfinite(z)
    )
    chosen: dict[str, list[int]] = {layer: [] for layer in usable}
    layers = list(usable)
    for _, number, position in ranking:
        own = chosen[layers[number]]
        if num and len(own) < spare[layers[number]]:
            own.append(position)
            num -= 1
    return {layer: sorted(positions) for layer, positions in chosen.items()}


def _z_scores(score_C: Tensor) -> Tensor:
    """Scores around their mean in units of their standard deviation; 0 where all are alike."""
    score_C = score_C.double()
    finite_C = score_C[score_C.isfinite()]
    spread = finite_C.std(correction=0)
    return (score_C - finite_C.mean()) / torch.where(spread > 0, spread, 1)


def remove(
    model: Classifier,
    prune: Prune,
    plan: ChannelPlan,
    removed: Mapping[str, Sequence[int]],
    baseline: Baseline,
) -> ChannelPlan:
    """Cut (or mask) the chosen channels in place; returns the plan that includes them."""
    for unit in units(model.net, prune.layer, prune.site):
        positions = list(removed.get(unit.layer, ()))
        if not positions:
            continue
        total = num_channels(model.net, unit.layer)
        if prune.surgery == "cut":
            masks = _masks_after_cut(model, unit, positions, baseline)
            cut(model.net, unit.layer, unit.site, positions, baseline.feature_heads(model))
            model.masks = masks
            plan = extend_plan(plan, unit.layer, unit.site, positions, total)
        else:
            plan = _mask(model, unit, plan, positions, total)
    return plan


def _mask(
    model: Classifier, unit: Unit, plan: ChannelPlan, positions: list[int], total: int
) -> ChannelPlan:
    """The published way: the filter's weights are zero for good, its bias and what follows live
    on.
    """
    for layer in unit.members:
        name = f"net.{layer}.weight"
        weight = model.get_parameter(name)
        mask = model.masks.get(name, torch.ones_like(weight)).to(weight.device)
        mask[positions] = 0
        model.masks[name] = mask
    model.apply_masks()
    entry = {"site": unit.site} | _entry(plan, unit.layer, total)
    return plan | {unit.layer: entry | {"masked": sorted({*entry["masked"], *positions})}}


def _entry(plan: ChannelPlan, layer: str, num_now: int) -> dict[str, Any]:
    return {"masked": []} | plan.get(layer, {"num_channels": num_now, "removed": []})


def _masks_after_cut(
    model: Classifier, unit: Unit, positions: list[int], baseline: Baseline
) -> dict[str, Tensor]:
    """The masks of the weights that are left: cut like the weights, in a twin that holds them."""
    if not model.masks:
        return {}
    twin = copy.deepcopy(model)
    for name, mask in model.masks.items():
        twin.get_parameter(name).data.copy_(mask)
    cut(twin.net, unit.layer, unit.site, positions, baseline.feature_heads(twin))
    return {name: twin.get_parameter(name).detach() for name in model.masks}
