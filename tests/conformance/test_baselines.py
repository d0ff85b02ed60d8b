"""Every registered baseline through the kit; the kit against baselines that break a promise."""

from typing import ClassVar, Literal

import pytest
import torch
from pydantic import create_model
from torch import Tensor, nn

from trainables.baselines.base import Baseline, Batch, cross_entropy
from trainables.baselines.vanilla import Vanilla
from trainables.conformance import NotConforming
from trainables.conformance import baselines as kit
from trainables.deriving import TrainingImages
from trainables.models.classifier import Classifier
from trainables.registry import baselines
from trainables.specs import Spec

torch.set_num_threads(1)


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", baselines.names())
def test_baseline(name: str, check) -> None:
    check(baselines.get(name).Config())


def register(cls: type[Baseline], name: str) -> Spec:
    config = create_model("Config", __base__=Baseline.Config, name=(Literal[name], name))
    baselines._classes[name] = type(f"Made_{name}", (cls,), {"Config": config, "name": name})
    return config()


@pytest.fixture
def own_names():
    """Baselines registered by one test are gone after it."""
    before = dict(baselines._classes)
    yield
    baselines._classes.clear()
    baselines._classes.update(before)


class _TwoHeads(Vanilla):
    """Sound: a domain head beside the class head on the same features."""

    name: ClassVar[str]

    @classmethod
    def reads_group(cls, config: Spec) -> bool:
        return True

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        return nn.ModuleDict({"domain": nn.Linear(num_features, self.task.num_groups)})

    def feature_heads(self, model: Classifier) -> list[nn.Linear]:
        return [model.extra["domain"]]

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        feature_NF, logits_NK = model.forward_features(batch.image_NCHW)
        known = batch.group_N >= 0
        domain = cross_entropy(model.extra["domain"](feature_NF[known]), batch.group_N[known])
        return cross_entropy(logits_NK, batch.label_N) + domain


class _Student(Vanilla):
    """Sound: distils from a frozen vanilla teacher."""

    @classmethod
    def sources(cls, config: Spec) -> tuple[Spec, ...]:
        return (Vanilla.Config(),)

    def begin(self, model: Classifier, sources: list[Classifier]) -> None:
        (self.teacher,) = sources

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        with torch.no_grad():
            target_NK = self.teacher(batch.image_NCHW)
        logits_NK = model(batch.image_NCHW)
        return cross_entropy(logits_NK, batch.label_N) + (logits_NK - target_NK).square().mean()


class _Zeroed(Vanilla):
    """Sound: derives from vanilla by zeroing half of the head."""

    derives = True

    @classmethod
    def sources(cls, config: Spec) -> tuple[Spec, ...]:
        return (Vanilla.Config(),)

    def derive(self, model: Classifier, images: TrainingImages) -> None:
        mask = torch.ones_like(model.head.weight)
        mask[:, ::2] = 0
        model.masks["net.fc.weight"] = mask
        model.apply_masks()


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("cls", [_TwoHeads, _Student, _Zeroed])
def test_a_sound_third_party_baseline_passes(cls: type[Baseline], check, own_names: None) -> None:
    check(register(cls, "sound" + cls.__name__.lower()))


class _Climbs(Vanilla):
    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        return -super().loss(model, batch)

    def step(self, *args) -> dict[str, Tensor]:
        return {"loss": -super().step(*args)["loss"]}


class _NoLoss(Vanilla):
    def step(self, *args) -> dict[str, Tensor]:
        super().step(*args)
        return {}


class _HidesGroup(_TwoHeads):
    @classmethod
    def reads_group(cls, config: Spec) -> bool:
        return False


class _HidesGroupAtInference(Vanilla):
    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        return model(image_NCHW) + group_N[:, None]


class _FewLogits(Vanilla):
    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        return model(image_NCHW)[:, :-1]


class _BatchLogits(Vanilla):
    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        logits_NK = model(image_NCHW)
        return logits_NK - logits_NK.mean(0)


class _OwnRandom(Vanilla):
    generator = torch.Generator().manual_seed(0)

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        return super().loss(model, batch) * (1 + torch.rand((), generator=self.generator))


class _KeptOutside(Vanilla):
    temperature = 1.0

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        self.temperature += 0.5
        return super().loss(model, batch)

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        return model(image_NCHW) / self.temperature


class _Moving(Vanilla):
    """Sound: the loss follows its own moving average, which it keeps."""

    mean = torch.zeros(())

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        loss = super().loss(model, batch)
        self.mean = 0.5 * self.mean + 0.5 * loss.detach()
        return loss * (1 + self.mean)

    def step(self, *args) -> dict[str, Tensor]:
        logs = super().step(*args)
        return {"loss": logs["loss"] / (1 + self.mean)}

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean = state["mean"]


class _MovingForgotten(_Moving):
    def state_dict(self) -> dict[str, Tensor]:
        return {}


class _ForgottenHead(_TwoHeads):
    def feature_heads(self, model: Classifier) -> list[nn.Linear]:
        return []


class _NoSource(_Zeroed):
    @classmethod
    def sources(cls, config: Spec) -> tuple[Spec, ...]:
        return ()


BROKEN = {
    "check_config_round_trip": [_NoSource],
    "check_loss_falls": [_Climbs, _NoLoss],
    "check_logits": [_FewLogits, _BatchLogits],
    "check_group_at_inference": [_HidesGroupAtInference],
    "check_deterministic": [_OwnRandom],
    "check_reads_group": [_HidesGroup],
    "check_state_round_trip": [_KeptOutside],
    "check_resumes": [_MovingForgotten],
}


def test_what_a_baseline_keeps_is_resumed(own_names: None) -> None:
    kit.check_resumes(register(_Moving, "moving"))


@pytest.mark.parametrize(
    ("check", "cls"), [(check, cls) for check, classes in BROKEN.items() for cls in classes]
)
def test_the_kit_finds_a_broken_promise(check: str, cls: type[Baseline], own_names: None) -> None:
    with pytest.raises(NotConforming):
        getattr(kit, check)(register(cls, "broken" + cls.__name__.lower()))


def test_a_head_that_is_not_cut_with_the_features_is_found(own_names: None) -> None:
    with pytest.raises((NotConforming, RuntimeError)):
        kit.check_survives_pruning(register(_ForgottenHead, "broken_head"))
