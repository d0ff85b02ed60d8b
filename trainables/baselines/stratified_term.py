"""What HSIC and MFD share: cross-entropy plus a term over images of one stratum and known group.

A stratum is a class, a coarse category of classes, or the whole batch (``condition``). With many
classes a batch holds few images of each and the term touches few of them: how many is logged as
``touched``.

Shape legend: N images, F features, C classes, S strata, G groups.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.baselines.base import Baseline, Batch, Task, cross_entropy
from trainables.errors import UserError
from trainables.metrics.kernels import full_precision
from trainables.models.classifier import Classifier

LEAST_TOUCHED = 0.3
"""Share of images that the term touches below which the trial says so."""


class StratifiedTerm(Baseline):
    """Cross-entropy + weight * term; the features are the activation before the last linear layer.

    Images of unknown group are in the cross-entropy and not in the term.
    """

    name: ClassVar[str]
    couples_images = True

    class Config(Baseline.Config):
        """What images are compared with each other."""

        strength: float = Field(1.0, ge=0)
        condition: Literal["class", "coarse", "none"] = Field(
            "class", description="compare images of one class, of one coarse category, or all"
        )

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        if config.condition == "coarse" and task.coarse_C is None:
            raise UserError(
                "condition must be 'class' or 'none' but got 'coarse': the data set has no coarse "
                f"categories of its {task.num_classes} classes (baseline {config.name})"
            )
        strata = {
            "class": tuple(range(task.num_classes)),
            "coarse": task.coarse_C or (),
            "none": (0,) * task.num_classes,
        }[config.condition]
        self._num_strata = len(set(strata))
        self._stratum_C = torch.tensor(strata)
        self._logs: dict[str, Tensor] = {}

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """The term does."""
        return True

    @property
    def weight(self) -> float:
        """What the term is multiplied by."""
        return float(self.config.strength)

    @abstractmethod
    def term(self, feature_NF: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The term (a scalar) and the number of images that it touches; called under autocast."""

    def strata(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """0/1 memberships ``member_NS``, ``group_NG`` (float32); rows of unknown group are 0."""
        if self._stratum_C.device != batch.label_N.device:  # once
            self._stratum_C = self._stratum_C.to(batch.label_N.device)
        known_N = batch.group_N >= 0
        stratum_N = torch.where(known_N, self._stratum_C[batch.label_N], -1)
        group_NG = _one_hot(batch.group_N, self.task.num_groups)
        return _one_hot(stratum_N, self._num_strata), group_NG

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """Cross-entropy of all images plus the weighted term."""
        feature_NF, output_NK = model.forward_features(batch.image_NCHW)
        term, num_touched = self.term(feature_NF, batch)
        self._logs = {
            "term": term.detach(),
            "touched": num_touched.detach().float() / len(batch.label_N),
        }
        with full_precision(output_NK):
            return cross_entropy(output_NK, batch.label_N) + self.weight * term

    def step(
        self,
        model: Classifier,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        autocast: torch.autocast,
    ) -> dict[str, Tensor]:
        """One descent; ``term`` and ``touched`` are logged beside ``loss``."""
        return super().step(model, batch, optimizer, autocast) | self._logs

    def notes(self, curves: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """Says so if the term touched few images."""
        if not curves:
            return ()
        touched = sum(epoch["train_touched"] for epoch in curves) / len(curves)
        if touched >= LEAST_TOUCHED:
            return ()
        return (
            f"{self.name}: its term touched {100 * touched:.0f} % of the images of a batch (below "
            f"{100 * LEAST_TOUCHED:.0f} %), the rest had cross-entropy alone: sampling "
            "'class_grouped', condition 'coarse' or 'none', or larger batches raise it",
        )


def _one_hot(index_N: Tensor, num: int) -> Tensor:
    """(N, num) float32; a negative index is a row of zeros. Nothing waits for the device."""
    return (index_N[:, None] == torch.arange(num, device=index_N.device)).float()
