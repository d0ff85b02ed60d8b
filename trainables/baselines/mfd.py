from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from trainables.baselines.base import Batch, Task
from trainables.baselines.stratified_term import StratifiedTerm
from trainables.errors import UserError
from trainables.metrics.kernels import full_precision, mmd_by_cell, rbf, squared_distances
from trainables.models.classifier import Classifier
from trainables.pruning.kept_features import kept_features
from trainables.registry import baselines
from trainables.trial_spec import Recipe


@baselines.register("mfd")
class MFD(StratifiedTerm):
    """Fair feature distillation by MMD (Jung et al., CVPR 2021).

    CE + (strength / 2) sum_c sum_g MMD^2(f_T[y=c], f_S[y=c, s=g]): in each class every group's
    features are drawn to the features that a frozen teacher has for the class as a whole. Kernel
    exp(-d^2 / (2 sigma d_mean^2)), d_mean^2 the mean squared distance of all pairs of a teacher's
    and a student's features in the batch; self-pairs count (biased MMD).

    The teacher is a net of the same architecture, ``vanilla`` with the same recipe by default: the
    root that FATE is measured against, so nothing is trained for it. It is in eval mode, whole
    also after pruning: of its features those are compared that the cut student still has.
    """

    name: ClassVar[str]
    keeps_sources = True

    class Config(StratifiedTerm.Config):
        """How strong, within what, and the teacher."""

        name: Literal["mfd"] = "mfd"
        # the middle of the published 3 to 7, and what was used on dermatology (arXiv 2405.08681)
        strength: float = Field(5.0, ge=0)
        sigma: float = Field(1.0, gt=0, description="factor of the kernel's bandwidth")
        min_group: int = Field(
            1, ge=1, description="least images of a class and group in a batch; 1: as published"
        )
        teacher: str = Field("vanilla", description="a baseline, with its default options")
        teacher_training: Recipe | None = Field(
            None,
            description="None: as `training`, but sampling 'class' where that is 'class_grouped'",
        )

        @field_validator("teacher")
        @classmethod
        def _known(cls, value: str) -> str:
            try:
                teacher = baselines.get(value)
            except UserError as error:
                raise ValueError(str(error)) from None
            if teacher is MFD:
                raise ValueError("the teacher of mfd cannot be mfd")
            return value

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        self._teacher: Classifier | None = None
        self._kept_F: Tensor | None = None

    @classmethod
    def sources(cls, config: Any) -> tuple[Any, ...]:
        """The teacher."""
        recipe = config.teacher_training or config.training
        if config.teacher_training is None and recipe.sampling == "class_grouped":
            # made for the term, which the teacher has not: classes are as frequent with both
            recipe = recipe.model_copy(update={"sampling": "class"})
        return (baselines.get(config.teacher).Config(training=recipe.resolved()),)

    @property
    def weight(self) -> float:
        """Half the strength."""
        return 0.5 * float(self.config.strength)

    def begin(self, model: Classifier, sources: Sequence[Classifier]) -> None:
        """Freeze the teacher and find the features it shares with a cut student."""
        if not sources:  # fine-tuning with plain cross-entropy
            return
        (teacher,) = sources
        cut = model.head.in_features != teacher.head.in_features
        self._kept_F = kept_features(teacher, model.plan) if cut else None
        self._teacher = teacher.eval().requires_grad_(False)

    def term(self, feature_NF: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum over strata and groups of at least ``min_group`` images of MMD^2.

        An image counts as touched where another group of its stratum is in the batch: elsewhere
        the term only distils.
        """
        target_NF = self._target(batch)
        with full_precision(feature_NF):
            member_NS, group_NG = self.strata(batch)
            student_NSG = member_NS[:, :, None] * group_NG[:, None, :]
            teacher_NSG = member_NS[:, :, None].expand_as(student_NSG)
            used_SG = student_NSG.sum(0) >= self.config.min_group
            mmd_SG = mmd_by_cell(
                *self._kernels(target_NF, feature_NF, member_NS.sum(1)),
                teacher_NSG.flatten(1),
                student_NSG.flatten(1),
            ).view_as(used_SG)
            against_SG = used_SG & (used_SG.sum(1, keepdim=True) >= 2)
            return (mmd_SG * used_SG).sum(), (student_NSG * against_SG).sum()

    def _target(self, batch: Batch) -> Tensor:
        assert self._teacher is not None
        with torch.no_grad():
            target_NF, _ = self._teacher.forward_features(batch.image_NCHW)
        return target_NF if self._kept_F is None else target_NF[:, self._kept_F]

    def _kernels(
        self, target_NF: Tensor, feature_NF: Tensor, known_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Within the teacher, within the student, between them."""
        between_NN = squared_distances(target_NF, feature_NF)
        mean = (known_N @ between_NN @ known_N) / known_N.sum().square().clamp(min=1)
        bandwidth = self.config.sigma * mean
        return (
            rbf(squared_distances(target_NF, target_NF), bandwidth),
            rbf(squared_distances(feature_NF, feature_NF), bandwidth),
            rbf(between_NN, bandwidth),
        )
