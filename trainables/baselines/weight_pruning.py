"""Baselines that zero single weights of a trained model by a saliency, once, without retraining.

The masks are kept by all later fine-tuning.

Shape legend: N images, C colours, H height, W width, K classes, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.baselines.derived import Derived
from trainables.models.classifier import Classifier
from trainables.pruning.base import ScoringError
from trainables.pruning.curvature import Kind, Parameters, group_curvature, logits_of
from trainables.pruning.strata import choose_rows

if TYPE_CHECKING:
    from trainables.deriving import TrainingImages


def saliency(parameters: Parameters, diagonal: Parameters, weight_G: Tensor) -> Parameters:
    """``1/2 theta_j^2 sum_g w_g h_jj^g``: what the weighted loss rises by, to second order and
    without cross terms, when weight j is set to zero at a minimum.

    LeCun, Denker and Solla, Optimal Brain Damage, NeurIPS 1989, sec. 2, per group as in Wu et al.,
    FairPrune, MICCAI 2022. ``diagonal``: name -> (G, *shape).
    """
    return {
        name: 0.5 * value.float().square() * torch.tensordot(weight_G, diagonal[name], dims=1)
        for name, value in parameters.items()
    }


def lowest_masks(score: Parameters, num: int) -> Parameters:
    """0/1 masks that drop the ``num`` lowest entries over all tensors together.

    Of equal scores the first go first, in the order of the tensors.
    """
    flat = torch.cat([value.flatten() for value in score.values()])
    keep = torch.ones_like(flat)
    if num:
        highest = flat.kthvalue(num).values
        below = flat < highest
        keep[below] = 0
        tied = torch.nonzero(flat == highest).flatten()
        keep[tied[: num - int(below.sum())]] = 0
    parts = keep.split([value.numel() for value in score.values()])
    return {n: k.reshape(v.shape) for (n, v), k in zip(score.items(), parts, strict=True)}


def prunable(model: Classifier, biases: bool) -> Parameters:
    """Weights of the net's convolutions and linear layers, with their biases where asked for."""
    found = {}
    for layer, module in model.net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            found[f"net.{layer}.weight"] = module.weight.detach()
            if biases and module.bias is not None:
                found[f"net.{layer}.bias"] = module.bias.detach()
    return found


class WeightPruning(Derived):
    """Zero the share of weights that a saliency ranks lowest, in one ranking over all layers."""

    class Config(Derived.Config):
        """Options of every saliency; for ``curvature`` see ``trainables.pruning.curvature``.

        With the default each of ``max_images`` images costs one backward pass; ``gauss_newton``
        costs one a class, has no error of drawing, and is the better choice for few classes.
        """

        ratio: float = Field(
            0.35, gt=0, lt=1, description="share zeroed of the weights that may be"
        )
        biases: bool = Field(False, description="whether biases may be zeroed as well")
        curvature: Kind = "gauss_newton_mc"
        max_images: int = Field(2048, ge=1, description="training images the curvature is read of")
        steps: int = Field(
            1, ge=1, description="equal parts of the ratio, with a new curvature before each"
        )

    config: WeightPruning.Config

    def stratum_weights(self, images: TrainingImages) -> Tensor:
        """weight_G of each stratum's curvature in the saliency (CPU float32)."""
        raise NotImplementedError

    def strata(self, group_N: Tensor) -> Tensor:
        """Which of the strata each image counts for; negative: for none."""
        raise NotImplementedError

    @property
    def balance(self) -> bool:
        """Whether every stratum gives equally many images."""
        return False

    def derive(self, model: Classifier, images: TrainingImages) -> None:
        """Zero the lowest and mask them; ``steps`` times with a new curvature.

        Raises:
            ScoringError: a group has no training image, or a saliency is not finite.
        """
        config = self.config
        weight_G = self.stratum_weights(images)
        stratum_N = self.strata(images.group_N)
        rows = choose_rows(
            stratum_N, len(weight_G), config.max_images, images.generator, balance=self.balance
        )
        forward = logits_of(model, self._source)
        for step in range(1, config.steps + 1):
            weights = prunable(model, config.biases)
            diagonal, _ = group_curvature(
                forward,
                weights,
                self._stratified(images, rows),
                len(weight_G),
                kind=config.curvature,
                generator=images.generator,
            )
            device = next(iter(weights.values())).device
            score = saliency(weights, diagonal, weight_G.to(device))
            if not all(bool(value.isfinite().all()) for value in score.values()):
                raise ScoringError(f"{config.name}: saliencies are not finite")
            num_inert = sum(int((value == 0).sum()) for value in score.values())
            num_zero = 0
            for name, mask in model.masks.items():  # what is zero already stays so, and counts
                if name in score:
                    score[name] = score[name].masked_fill(mask.to(device) == 0, -torch.inf)
                    num_zero += int((mask == 0).sum())
            total = sum(value.numel() for value in score.values())
            num = int(config.ratio * total * step / config.steps + 1e-9)
            model.masks |= lowest_masks(score, max(num, num_zero))
            model.apply_masks()
            if step == 1 and num_inert > num / 2:
                images.note(
                    f"{config.name}: {100 * num_inert / total:.0f} % of the weights have no "
                    "curvature on these images (they read only padding or dead units); zeroing "
                    "them changes nothing"
                )
        empty = [name for name, mask in model.masks.items() if not bool(mask.any())]
        if empty:
            images.note(f"{config.name}: every weight of {', '.join(empty)} is zero")

    def _stratified(
        self, images: TrainingImages, rows: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for batch in images.batches(rows):
            stratum_N = self.strata(batch.group_N)
            yield batch.image_NCHW, batch.label_N, stratum_N, batch.group_N
