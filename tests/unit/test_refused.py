"""A mistake in a space is found when it is read, not in hour nine."""

import re

import pytest

from orchestrator.spaces import load_space
from search_spaces.sweep_spec import SweepSpec
from trainables.baselines.vanilla import Vanilla
from trainables.errors import UserError
from trainables.trial_spec import Prune, Recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.layer=layer9", "layer 'layer9' is not a convolution"),
        ("prune={criterion: snnl, layer: layer4.0.conv2, site: block}", "use site 'group'"),
        ("finetune.normalise=imagenet", "finetune.normalise must be 'none'"),
        ("search.objectives=[fate_eodd, f1]", "needs mode 'paper'"),
        ("search.objectives=[f1]", "objectives must be two or three but got 1: f1"),
        (
            "search.objectives=[f1, params, flops, auroc]",
            "objectives must be two or three but got 4: f1, params, flops, auroc",
        ),
        ("data.split.fractions=[1, 2, 3]", "sum to 1"),
    ],
)
def test_what_cannot_work_is_refused_before_any_training(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_space("quickstart", [override])


def test_a_typed_part_leaves_the_sweep_s_recipe_alone() -> None:
    spec = SweepSpec(
        name="typed",
        data="synthetic",
        backbone="resnet18",
        training=Recipe(epochs=5, augment={"vertical_flip": 0.0}),
        finetune=Recipe(epochs=2),
        baseline=Vanilla.Config(),
        prune=Prune(criterion="snnl", ratio=0.1),
    )
    trial = spec.trial(spec.baseline, spec.prune, 1, 0)
    assert trial.baseline.training == spec.training
    assert trial.prune is not None
    assert trial.prune.finetune == spec.finetune
    partial = {"name": "vanilla", "training": {"augment": {"degrees": 90}}}
    merged = spec.trial(partial, None, 0, 0).baseline.training
    assert (merged.augment.degrees, merged.augment.vertical_flip, merged.epochs) == (90, 0, 5)
