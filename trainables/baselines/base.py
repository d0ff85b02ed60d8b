"""What every baseline is: a typed config, modules beside the net, a loss (or a whole step), and
inference.

Shape legend: N images, C channels, H height, W width, K classes, D groups, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.classifier import Classifier, MapReader
from trainables.specs import Spec
from trainables.trial_spec import Recipe

if TYPE_CHECKING:
    from trainables.deriving import TrainingImages


@dataclass(frozen=True)
class Task:
    """What a baseline is told of the data."""

    num_classes: int
    num_groups: int
    coarse_C: tuple[int, ...] | None = None
    """Number of the coarse category of each class, where the data set has such categories."""
    groups: tuple[str, ...] = ()
    """Names of the groups, for options that name one; empty where they have none."""


@dataclass(frozen=True)
class Batch:
    """One training batch on the device; ``group_N`` is -1 where unknown; ``progress`` runs from 0
    to 1.
    """

    image_NCHW: Tensor
    label_N: Tensor
    group_N: Tensor
    progress: float


class Baseline:
    """One way to train (or to derive) a classifier.

    The life of one: ``num_outputs``, ``adapt`` and ``extra_modules`` shape the classifier;
    ``begin`` hands over the models of ``sources`` (a frozen teacher); each batch goes through
    ``step``, which by default is one descent of ``loss`` (override it for alternating updates);
    ``logits`` is inference. A baseline with ``derives = True`` is made from its first source by
    ``derive`` instead of being trained from data; masks it sets are kept by all later fine-tuning.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int] = 1
    derives: ClassVar[bool] = False
    needs_group_at_inference: bool = False
    """Set on the class, or in ``__init__`` where it depends on the config."""
    plain_loss: ClassVar[bool] = False
    """Whether the loss is cross-entropy anyway, so that ``finetune_loss`` does not matter."""
    keeps_sources: ClassVar[bool] = False
    """Whether fine-tuning after pruning needs the sources again (a teacher)."""

    class Config(Spec):
        """Every baseline has a recipe; the sweep's ``training`` is its default."""

        name: str
        training: Recipe = Recipe()

    couples_images: bool = False
    """Whether a step is not that of a mean over images but reads a batch as a whole, so that it is
    another one on parts of the batch; beside BatchNorm, which always does.
    """

    def __init__(self, config: Any, task: Task) -> None:
        self.config = config
        self.task = task

    @classmethod
    def sources(cls, config: Any) -> tuple[Any, ...]:
        """Configs of the baselines whose trained models this one needs (a teacher; what it derives
        from).
        """
        return ()

    @classmethod
    def loss_is_plain(cls, config: Any) -> bool:
        """Whether the loss is cross-entropy anyway; override where that depends on the config."""
        return cls.plain_loss

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """Whether training depends on the sensitive attribute; override where the loss does."""
        return cls.needs_group_at_inference or config.training.sampling in (
            "group",
            "class_group",
        )

    @classmethod
    def check_net(cls, config: Any, net: nn.Module) -> None:
        """Whether this kind of net will do; called when a search space is read, before any
        training, with a net that has shapes but no values (on the meta device).

        Raises:
            UserError: it will not.
        """

    def num_outputs(self) -> int:
        """Outputs of the net's head."""
        return self.task.num_classes

    def adapt(self, model: Classifier) -> None:
        """Change the fresh, uncut net before the extra modules are made, or read its shape.

        Raises:
            UserError: the baseline cannot be used with this net.
        """

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        """Modules trained beside the net; ``num_features`` is what the head reads."""
        return nn.ModuleDict()

    def feature_heads(self, model: Classifier) -> Sequence[nn.Linear | MapReader]:
        """What among the extra modules reads features of the net, and is cut with them.

        A linear layer reads the same features as the head; a ``MapReader`` the maps it names.
        """
        return ()

    def begin(self, model: Classifier, sources: Sequence[Classifier]) -> None:
        """Called once before training with the models of ``sources``: on the device, in eval.

        With ``keeps_sources`` also before every fine-tuning.
        """

    def optimizer(self, model: Classifier, recipe: Recipe) -> torch.optim.Optimizer:
        """SGD with the recipe's settings over all parameters."""
        return torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """The scalar to descend."""
        raise NotImplementedError(f"{type(self).__name__} needs loss or step")

    def plain_cross_entropy(self, model: Classifier, batch: Batch) -> Tensor:
        """What ``finetune_loss: cross_entropy`` descends: that of the logits at inference."""
        logits_NK = self.logits(model, batch.image_NCHW, batch.group_N)
        return cross_entropy(logits_NK, batch.label_N)

    def step(
        self,
        model: Classifier,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        autocast: torch.autocast,
    ) -> dict[str, Tensor]:
        """One update; returns detached scalars to average over the epoch, ``loss`` among them."""
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = self.loss(model, batch)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        """What the baseline keeps from step to step outside the model: an adversary that is no
        module of it, a moving average, a generator's state. A training that was interrupted goes
        on with it; the modules of the model and the optimizer's state are kept anyway.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave; called after ``begin``, on the model's device."""
        raise NotImplementedError(f"{type(self).__name__} has state_dict but no load_state_dict")

    def notes(self, curves: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """What a user should know of a training that is over, from its metrics of each epoch."""
        return ()

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        """Class logits (N, K); ``group_N`` may be read only with ``needs_group_at_inference``."""
        return model(image_NCHW)

    def derive(self, model: Classifier, images: TrainingImages) -> None:
        """Make this baseline of its first source's weights, in place (only with ``derives``)."""
        raise NotImplementedError(f"{type(self).__name__} does not derive")


def cross_entropy(logits_NK: Tensor, label_N: Tensor) -> Tensor:
    """Mean cross-entropy, in float32 whatever the autocast type."""
    return functional.cross_entropy(logits_NK.float(), label_N)
