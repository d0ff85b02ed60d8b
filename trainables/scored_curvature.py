"""The curvature a criterion asks for: computed when it is asked for, once for all layers.

Shape legend: N images, C colours, H height, W width, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.baselines.base import Baseline
from trainables.models.classifier import Classifier
from trainables.pruning.base import Curvature
from trainables.pruning.curvature import group_curvature, logits_of
from trainables.pruning.strata import choose_rows
from trainables.training import Trainer
from trainables.trial_spec import Recipe

BATCH = 128


def curvature_of(
    model: Classifier,
    baseline: Baseline,
    parameters: Mapping[str, Tensor],
    trainer: Trainer,
    train_rows: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
) -> Curvature:
    """What ``ScoringContext.curvature`` is: of these parameters, on images of these rows that the
    generator draws.
    """
    forward, data = logits_of(model, baseline), trainer.data
    group_N = data.group_N.cpu()[train_rows]
    known: dict[tuple[Any, ...], Mapping[str, Tensor]] = {}

    def curvature(
        kind: Any, max_images: int, *, grouped: bool, balance: bool
    ) -> Mapping[str, Tensor]:
        asked = (kind, max_images, grouped, balance)
        if asked not in known:
            stratum_N = group_N if grouped else torch.zeros_like(group_N)
            num = len(data.dataset.groups) if grouped else 1
            chosen = choose_rows(stratum_N, num, max_images, generator, balance=balance)

            def batches() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
                for part in chosen.split(BATCH):
                    rows = train_rows[part]
                    image_NCHW = trainer.eval_images(recipe, rows)
                    label_N = data.label_N[rows.to(data.device)]
                    yield image_NCHW, label_N, stratum_N[part], group_N[part]

            known[asked], _ = group_curvature(
                forward, dict(parameters), batches(), num, kind=kind, generator=generator,
                replicas=trainer.replicas,
            )  # fmt: skip
        return known[asked]

    return curvature
