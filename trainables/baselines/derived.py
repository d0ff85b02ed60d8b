"""Baselines made of another one's trained model, which keeps the other's head, loss and inference.

Shape legend: N images, C colours, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from trainables.baselines.base import Baseline, Batch, Task
from trainables.baselines.vanilla import Vanilla
from trainables.errors import UserError
from trainables.models.classifier import Classifier, MapReader
from trainables.registry import baselines
from trainables.specs import Spec, part
from trainables.trial_spec import Recipe


class Derived(Baseline):
    """The source is named in the config; everything but ``derive`` is handed on to it."""

    derives = True

    class Config(Baseline.Config):
        """``source`` is trained with ``training``, as the sweep's own root is, and is shared with
        it.
        """

        source: part(baselines) = Field(  # type: ignore[valid-type]
            Vanilla.Config(), description="the baseline whose trained model is changed"
        )

        @field_validator("source")
        @classmethod
        def _usable(cls, value: Spec) -> Spec:
            name = getattr(value, "name")  # noqa: B009
            if getattr(value, "training") != Recipe():  # noqa: B009
                raise ValueError("leave source.training out: `training` is the source's recipe")
            if baselines.get(name).keeps_sources:
                raise ValueError(
                    f"source {name!r} needs its own sources while it is fine-tuned, "
                    "which a model derived from it does not have"
                )
            return value

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        (source,) = self.sources(config)
        self._source: Baseline = baselines.get(source.name)(source, task)
        self.couples_images = self._source.couples_images
        if self._source.needs_group_at_inference:
            raise UserError(
                f"{config.name}: source {source.name!r} needs the group at inference, "
                "which a model derived from it is not told"
            )

    @classmethod
    def sources(cls, config: Any) -> tuple[Any, ...]:
        """The source, with this one's recipe."""
        return (config.source.model_copy(update={"training": config.training}),)

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """Where the source does: its loss goes on in fine-tuning."""
        (source,) = cls.sources(config)
        return bool(baselines.get(source.name).reads_group(source))

    @classmethod
    def loss_is_plain(cls, config: Any) -> bool:
        """Where the source's is."""
        (source,) = cls.sources(config)
        return bool(baselines.get(source.name).loss_is_plain(source))

    def num_outputs(self) -> int:
        """The source's."""
        return self._source.num_outputs()

    def adapt(self, model: Classifier) -> None:
        """The source's."""
        self._source.adapt(model)

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        """The source's."""
        return self._source.extra_modules(num_features)

    def feature_heads(self, model: Classifier) -> Sequence[nn.Linear | MapReader]:
        """The source's."""
        return self._source.feature_heads(model)

    def begin(self, model: Classifier, sources: Sequence[Classifier]) -> None:
        """The source's, where it has no sources of its own (which are gone by now)."""
        if not self._source.sources(self._source.config):
            self._source.begin(model, ())

    def optimizer(self, model: Classifier, recipe: Recipe) -> torch.optim.Optimizer:
        """The source's."""
        return self._source.optimizer(model, recipe)

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """The source's."""
        return self._source.loss(model, batch)

    def plain_cross_entropy(self, model: Classifier, batch: Batch) -> Tensor:
        """The source's."""
        return self._source.plain_cross_entropy(model, batch)

    def step(
        self,
        model: Classifier,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        autocast: torch.autocast,
    ) -> dict[str, Tensor]:
        """The source's."""
        return self._source.step(model, batch, optimizer, autocast)

    def state_dict(self) -> dict[str, Tensor]:
        """The source's."""
        return self._source.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The source's."""
        self._source.load_state_dict(state)

    def notes(self, curves: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """The source's."""
        return self._source.notes(curves)

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        """The source's."""
        return self._source.logits(model, image_NCHW, group_N)
