"""The scoring pass: feature maps of one site over training images, fed to a criterion."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.base import TRAIN
from trainables.models.classifier import Classifier
from trainables.pruning.base import Criterion, ScoringContext, ScoringError
from trainables.pruning.surgery import num_channels, site_module
from trainables.registry import criteria
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial_spec import Prune


@torch.inference_mode()
def score_channels(model: Classifier, prune: Prune, trainer: Trainer) -> Tensor:
    """``score_C`` of the layer's channels (CPU float32), in eval mode, without augmentation.

    Raises:
        ScoringError: the criterion cannot be computed from this data, or a score is not finite.
    """
    cls = criteria.get(prune.criterion.name)
    context = ScoringContext(
        num_channels=num_channels(model.net, prune.layer),
        num_groups=len(trainer.data.dataset.groups),
        generator=stream(trainer.seed, "select", trainer.iteration),
    )
    criterion = cls(prune.criterion, context)
    if criterion.needs_features:
        _feed(criterion, model, prune, trainer, context)
    score_C = criterion.score()
    if not bool(torch.isfinite(score_C).all()):
        raise ScoringError(
            f"{cls.name}: {int((~score_C.isfinite()).sum())} channel scores are not finite"
        )
    return score_C


def _feed(
    criterion: Criterion,
    model: Classifier,
    prune: Prune,
    trainer: Trainer,
    context: ScoringContext,
) -> None:
    model.eval()
    train_rows = torch.from_numpy(trainer.data.dataset.indices(TRAIN))
    group_N = trainer.data.group_N.cpu()[train_rows]
    caught: list[Tensor] = []
    site = site_module(model.net, prune.layer, prune.site)
    handle = site.register_forward_hook(lambda module, args, output: caught.append(output))
    try:
        for batch in criterion.scoring_order(prune.criterion, group_N, context.generator):
            with trainer.autocast():
                model(trainer.eval_images(prune.finetune, train_rows[batch]))
            feature_NCHW = caught.pop().float()
            if feature_NCHW.shape[2] * feature_NCHW.shape[3] == 1 and criterion.uses_maps:
                trainer.note(
                    f"feature maps of {prune.layer} are 1 x 1 at image size "
                    f"{trainer.data.dataset.image_size}: {criterion.name} sees only their signs; "
                    "larger images or an earlier layer tell channels apart better"
                )
            criterion.update(feature_NCHW, group_N[batch].to(feature_NCHW.device))
    finally:
        handle.remove()
