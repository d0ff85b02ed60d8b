"""What every channel criterion is: a score per channel, the lowest are removed.

Shape legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainables.specs import Spec


@dataclass(frozen=True)
class ScoringContext:
    """What a criterion may know besides feature maps."""

    num_channels: int
    num_groups: int
    generator: torch.Generator  # stream of purpose "select" for this seed and iteration


class Criterion(ABC):
    """One criterion: a typed ``Config``, fed with feature maps batch by batch, then asked for
    scores.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int] = 1
    uses_group: ClassVar[bool] = True
    cuts: ClassVar[bool] = True
    is_control: ClassVar[bool] = False
    needs_features: ClassVar[bool] = True
    uses_maps: ClassVar[bool] = False
    """Whether the score needs more than one position of a feature map to mean much."""

    class Config(Spec):
        """Options of the criterion; every one with a default is left out of the key at its
        default.
        """

        name: str

    def __init__(self, config: Spec, context: ScoringContext) -> None:
        self.config = config
        self.context = context

    @classmethod
    def scoring_order(
        cls, config: Spec, group_N: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        """Rows of the training split to score, one index tensor a batch; groups may be unknown
        (-1).

        A criterion that does not use the groups scores rows of unknown group too: to leave them
        out would read the groups, which are not in its key.
        """
        rows = torch.arange(len(group_N))
        if cls.uses_group:
            rows = rows[group_N >= 0]
        return list(rows[torch.randperm(len(rows), generator=generator)].split(128))

    def update(self, feature_NCHW: Tensor, group_N: Tensor) -> None:
        """Take in one batch of the site's feature maps (float32); groups are known where
        ``uses_group``.
        """

    @abstractmethod
    def score(self) -> Tensor:
        """``score_C`` on the CPU, finite; the lowest are removed first.

        Raises:
            ScoringError: the data cannot tell the channels apart (for example one group only).
        """


class ScoringError(Exception):
    """A criterion could not be computed from this data; the trial fails with this reason."""


def num_to_remove(ratio: float, num_original: int, num_left: int) -> int:
    """Channels one iteration removes: a share of the original number, at least one, never the
    last.
    """
    return min(max(1, int(ratio * num_original + 1e-9)), num_left - 1)


def lowest(score_C: Tensor, num: int) -> list[int]:
    """Positions of the ``num`` lowest scores, ascending; ties go to the lower position."""
    order = torch.sort(score_C.double(), stable=True).indices
    return sorted(order[:num].tolist())
