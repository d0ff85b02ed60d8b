"""Every registered criterion through the kit; the kit against criteria that break a promise."""

from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from pydantic import create_model
from torch import Tensor

from trainables.conformance import NotConforming
from trainables.conformance import criteria as kit
from trainables.pruning.base import Criterion, ScoringBatch
from trainables.registry import criteria
from trainables.specs import Spec

torch.set_num_threads(1)
OPTIONS = [
    {
        "name": "snnl",
        "normalise": "none",
        "self_pair": True,
        "sampling": "sequential",
        "batch_size": 16,
    },
    {"name": "snnl", "temperature": 0.05, "anchor_weight": "group", "direction": "highest"},
    {"name": "snnl", "sampling": "shuffled", "batch_size": 32, "min_group": 3},
    {"name": "snnl", "distance": "euclidean", "condition": "class"},
    {"name": "snnl", "distance": "euclidean", "scale": "mean", "batch_size": 48},
    {"name": "snnl", "attributes": {"group": 1.0, kit.FURTHER: 0.5}},
    {"name": "magnitude", "norm": "l2", "fold_norm": True},
    {"name": "skewness", "over": "all", "direction": "highest"},
    {"name": "hsic", "maps": "flat", "bandwidth": 0.5, "batch_size": 32},
    {"name": "fairprune", "beta": 0.8, "privileged": "group 1", "balance": False},
    {"name": "fairprune", "group_weights": {"group 0": 1.0, "group 1": -0.2}},
]
CONFIGS = [{"name": name} for name in criteria.names() if not name.startswith("broken")] + OPTIONS


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", CONFIGS, ids=lambda o: "-".join(map(str, o.values())))
def test_criterion(options: dict, check) -> None:
    check(criteria.get(options["name"]).Config(**options))


class _Variance(Criterion):
    """A sound criterion, the sum of squares; the broken ones differ from it in one place."""

    name: ClassVar[str]
    uses_group = False

    def __init__(self, config: Spec, context) -> None:
        super().__init__(config, context)
        self.total_C = torch.zeros(context.num_channels, dtype=torch.float64)

    def update(self, batch: ScoringBatch) -> None:
        self.total_C += batch.feature_NCHW.square().double().sum((0, 2, 3))

    def score(self) -> Tensor:
        return self.total_C.float()


def register(cls: type[_Variance], name: str) -> Spec:
    config = create_model("Config", __base__=Criterion.Config, name=(Literal[name], name))
    criteria._classes[name] = type(f"Made_{name}", (cls,), {"Config": config, "name": name})
    return config()


class _NotANumber(_Variance):
    def score(self) -> Tensor:
        return self.total_C.float() / self.total_C.float()


class _ReadsGroup(_Variance):
    def update(self, batch: ScoringBatch) -> None:
        known = replace(batch, feature_NCHW=batch.feature_NCHW[batch.group_N == 1])
        super().update(known)


class _OrdersByGroup(_Variance):
    @classmethod
    def scoring_order(
        cls, config: Spec, group_N: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        return [torch.nonzero(group_N >= 0).flatten()]


class _LastBatchWins(_Variance):
    def update(self, batch: ScoringBatch) -> None:
        self.total_C = batch.feature_NCHW.square().double().sum((0, 2, 3))


class _GlobalRandom(_Variance):
    def score(self) -> Tensor:
        return self.total_C.float() + torch.rand(len(self.total_C))


class _OneScore(_Variance):
    def score(self) -> Tensor:
        return self.total_C.float().mean()


class _WritesIntoMaps(_Variance):
    def update(self, batch: ScoringBatch) -> None:
        batch.feature_NCHW.add_(1)


class _ByPosition(_Variance):
    def score(self) -> Tensor:
        return self.total_C.float() + 100 * torch.arange(len(self.total_C))


class _TwiceEachRow(_Variance):
    @classmethod
    def scoring_order(
        cls, config: Spec, group_N: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        return [torch.arange(len(group_N)), torch.arange(3)]


BROKEN = {
    "check_one_finite_score_per_channel": [_NotANumber, _OneScore],
    "check_constant_features": [_NotANumber],
    "check_one_group": [_NotANumber],
    "check_repeatable": [_GlobalRandom],
    "check_batch_order": [_LastBatchWins],
    "check_uses_group": [_ReadsGroup, _OrdersByGroup],
    "check_scoring_order": [_TwiceEachRow],
    "check_duplicated_channels": [_ByPosition],
    "check_leaves_features_alone": [_WritesIntoMaps],
}


@pytest.fixture
def own_names():
    """Criteria registered by one test are gone after it."""
    before = dict(criteria._classes)
    yield
    criteria._classes.clear()
    criteria._classes.update(before)


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
def test_a_sound_third_party_criterion_passes(check, own_names: None) -> None:
    check(register(_Variance, "sound_variance"))


@pytest.mark.parametrize(
    ("check", "cls"), [(check, cls) for check, classes in BROKEN.items() for cls in classes]
)
def test_the_kit_finds_a_broken_promise(check: str, cls: type[_Variance], own_names: None) -> None:
    with pytest.raises(NotConforming):
        getattr(kit, check)(register(cls, "broken" + cls.__name__.lower()))


def test_a_config_that_reads_back_as_another_is_found(own_names: None) -> None:
    register(_Variance, "broken_config")

    class Config(Criterion.Config):
        name: Literal["broken_config"] = "broken_config"
        strength: float = float("inf")  # JSON has no infinity

    criteria._classes["broken_config"].Config = Config
    with pytest.raises((NotConforming, ValueError)):
        kit.check_config_round_trip(Config())
