"""What every channel criterion is: a score per channel, the lowest are removed.

Shape legend: N images, C channels, H height, W width, G groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from trainables.data.device import Labels
from trainables.specs import Spec

if TYPE_CHECKING:
    from trainables.pruning.coupling import CoupledParameter


@dataclass(frozen=True)
class ScoringBatch:
    """One batch of scoring images at one site, as every criterion gets it; on one device."""

    feature_NCHW: Tensor  # what the site put out, float32
    gradient_NCHW: Tensor | None  # of each image's own cross-entropy by it; None unless asked for
    label_N: Tensor
    group_N: Tensor  # as in ``Labels``
    further: Mapping[str, Tensor] = field(default_factory=dict)
    known: Labels | None = None  # the same on the CPU

    @property
    def on_cpu(self) -> Labels:
        """Classes and groups on the CPU: to decide there which images count spares the GPU a stop
        a batch.
        """
        if self.known is not None:
            return self.known
        further = {name: value_N.cpu() for name, value_N in self.further.items()}
        return Labels(self.label_N.cpu(), self.group_N.cpu(), further)

    def at(self, part: slice) -> ScoringBatch:
        """Some of the images, their maps and gradients in float32."""
        gradient_NCHW = self.gradient_NCHW
        return ScoringBatch(
            self.feature_NCHW[part].float(),
            None if gradient_NCHW is None else gradient_NCHW[part].float(),
            self.label_N[part],
            self.group_N[part],
            further={name: value_N[part] for name, value_N in self.further.items()},
            known=None if self.known is None else self.known.at(part),
        )


class Curvature(Protocol):
    """The diagonal curvature of the loss by the parameters of all layers that are scored."""

    def __call__(
        self, kind: Any, max_images: int, *, grouped: bool, balance: bool
    ) -> Mapping[str, Tensor]:
        """Name of each coupled parameter -> (G, *its shape), the mean over images of each group;
        unless ``grouped``, all images are one group. Computed once for all layers.
        """


@dataclass(frozen=True)
class ScoringContext:
    """What a criterion may know besides batches."""

    num_channels: int
    num_groups: int
    generator: torch.Generator  # stream of purpose "select" for this seed and iteration
    attribute: str = ""  # the sweep's own
    groups: tuple[str, ...] = ()
    weights: tuple[CoupledParameter, ...] = ()  # only with ``needs_weights``
    curvature: Curvature | None = None  # only with ``needs_curvature``; runs when it is called
    better_served: Callable[[], int] | None = None  # index of the group with the best F1


class Criterion(ABC):
    """One criterion: a typed ``Config``, fed batch by batch, then asked for scores.

    What it is given is what its class asks for. With several layers there is one instance a layer
    (where it reads maps) or a set of coupled layers (where it reads only weights), in the order of
    the net; all draw from the same generator.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int] = 1
    uses_group: ClassVar[bool] = True
    cuts: ClassVar[bool] = True
    is_control: ClassVar[bool] = False
    needs_features: ClassVar[bool] = True
    """Whether ``update`` is called at all (also where ``needs_gradients`` is set)."""
    needs_gradients: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = False
    needs_curvature: ClassVar[bool] = False
    sums_over_images: ClassVar[bool] = False
    """Whether only the images count, not which of them stand in one batch: several batches are
    then given to ``update`` as one."""

    class Config(Spec):
        """Options of the criterion; every one with a default is left out of the key at its
        default.
        """

        name: str

    def __init__(self, config: Any, context: ScoringContext) -> None:
        self.config = config
        self.context = context

    @classmethod
    def check_attributes(cls, config: Any, known: Sequence[str]) -> None:
        """Whether the attributes named in the options are among those the data keep; called
        before anything is trained.

        Raises:
            UserError: one is not.
        """

    @classmethod
    def check_groups(cls, config: Any, groups: Sequence[str]) -> None:
        """Whether the groups named in the options exist; called before anything is trained.

        Raises:
            UserError: one does not.
        """

    @classmethod
    def scoring_order(
        cls, config: Any, group_N: Tensor, generator: torch.Generator
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

    def update(self, batch: ScoringBatch) -> None:
        """Take in one batch of the site's feature maps; writes nothing into it."""

    def update_together(self, batch: ScoringBatch, sizes: Sequence[int]) -> None:
        """Take in several batches that went through the net together.

        The same as ``update`` of one after the other, which it is unless a criterion knows a
        faster way: on a GPU small batches cost their launches, not their arithmetic.

        Args:
            batch: the images of all; maps and gradients of the type that the net computed in.
            sizes: images of each batch, one behind the other.
        """
        if self.sums_over_images and len(sizes) > 1:
            most = values_at_once(batch.feature_NCHW[:1].numel())
            num = sum(sizes)
            sizes = [min(most, num - start) for start in range(0, num, most)]
        start = 0
        for size in sizes:
            self.update(batch.at(slice(start, start + size)))
            start += size

    def state(self) -> Any:
        """What was taken in so far, as tensors on the CPU and numbers; None where that of several
        processes cannot be put together, so that each of them takes in all.
        """
        return None

    def merge(self, state: Any) -> None:
        """Take in what another instance of the same place was fed, by its ``state``."""
        raise NotImplementedError(f"{type(self).__name__} has no state to merge")

    def one_pixel_note(self) -> str | None:
        """What a user should know where the maps are 1 x 1; None where it makes no difference."""
        return None

    @abstractmethod
    def score(self) -> Tensor:
        """``score_C`` on the CPU, finite; the lowest are removed first.

        Raises:
            ScoringError: the data cannot tell the channels apart (for example one group only).
        """


AT_ONCE = 1 << 26
"""Values of one tensor that scoring makes for itself, at most: a quarter of a GB in float32."""


def values_at_once(each: int) -> int:
    """How many things of ``each`` values may be computed together, at least one."""
    return max(1, AT_ONCE // each)


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
