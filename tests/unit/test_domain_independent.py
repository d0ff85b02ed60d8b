"""Domain-independent training: whose slice is trained, and how slices become one prediction."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainables.baselines.base import Batch, Task
from trainables.baselines.domain_independent import DomainIndependent
from trainables.conformance.baselines import CHECKS
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.node import load_model, make_baseline
from trainables.portable import load_portable, save_portable
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import run_trial
from trainables.trial_spec import Trial

torch.set_num_threads(1)
NUM_CLASSES, NUM_GROUPS, NUM_PIXELS = 4, 3, 12
GROUP = torch.tensor([0, 2, -1, 1, 1, 2, -1])
LABEL = torch.tensor([3, 0, 1, 2, 2, 3, 0])


@pytest.mark.parametrize("inference", ["known", "mean_probability"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_inference_conforms(inference: str, check) -> None:
    check(DomainIndependent.Config(inference=inference))


def made(inference: str = "sum_out") -> tuple[DomainIndependent, Classifier, Batch, np.ndarray]:
    """A linear net on pixels, a batch, and the net's outputs as (N, D, K) by NumPy."""
    task = Task(num_classes=NUM_CLASSES, num_groups=NUM_GROUPS)
    baseline = DomainIndependent(DomainIndependent.Config(inference=inference), task)
    torch.manual_seed(0)
    head = nn.Linear(NUM_PIXELS, baseline.num_outputs())
    batch = Batch(2 * torch.randn(7, 3, 2, 2), LABEL, GROUP, 0.5)
    output = batch.image_NCHW.numpy().reshape(7, -1) @ head.weight.detach().numpy().T
    output = (output + head.bias.detach().numpy()).astype(np.float64)
    output_NDK = np.stack(
        [output[:, d * NUM_CLASSES : (d + 1) * NUM_CLASSES] for d in range(NUM_GROUPS)], axis=1
    )
    return baseline, Classifier(nn.Sequential(nn.Flatten(), head)), batch, output_NDK


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_the_loss_is_cross_entropy_within_the_own_groups_slice() -> None:
    baseline, model, batch, output_NDK = made()
    terms = [
        -math.log(softmax(output_NDK[i, g])[y])
        for i, (g, y) in enumerate(zip(GROUP.tolist(), LABEL.tolist(), strict=True))
        if g >= 0
    ]
    assert len(terms) == 5
    assert baseline.loss(model, batch).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_an_image_trains_its_groups_slice_and_no_other() -> None:
    baseline, model, batch, _ = made()
    for group in (-1, 0, 1, 2):
        model.zero_grad()
        alone = Batch(batch.image_NCHW, LABEL, torch.full_like(GROUP, group), 0.5)
        loss = baseline.loss(model, alone)
        loss.backward()
        grad_DKF = model.head.weight.grad.unflatten(0, (NUM_GROUPS, NUM_CLASSES))
        touched = [d for d in range(NUM_GROUPS) if bool((grad_DKF[d] != 0).any())]
        assert touched == ([] if group < 0 else [group])
        assert (loss.item() == 0) == (group < 0)


def logits(inference: str, group_N: torch.Tensor) -> np.ndarray:
    baseline, model, batch, _ = made(inference)
    return baseline.logits(model, batch.image_NCHW, group_N).detach().numpy()


def test_sum_out_adds_the_slices() -> None:
    output_NDK = made()[3]
    expected = [[sum(row[:, y]) for y in range(NUM_CLASSES)] for row in output_NDK]
    assert np.allclose(logits("sum_out", GROUP), expected, atol=1e-5)


def test_mean_probability_is_the_mixture_of_the_groups_classifiers() -> None:
    output_NDK = made()[3]
    expected = np.mean([softmax(output_NDK[:, d]) for d in range(NUM_GROUPS)], axis=0)
    log_p = logits("mean_probability", GROUP)
    assert np.allclose(np.exp(log_p), expected, atol=1e-6)
    assert np.allclose(softmax(log_p), expected, atol=1e-6)


def test_known_takes_the_own_slice_and_sums_where_the_group_is_unknown() -> None:
    output_NDK = made()[3]
    expected = [row[g] if g >= 0 else row.sum(0) for row, g in zip(output_NDK, GROUP, strict=True)]
    assert np.allclose(logits("known", GROUP), expected, atol=1e-5)


def test_only_known_reads_the_group_at_inference() -> None:
    other = GROUP.flip(0).roll(2)
    for inference in ("sum_out", "mean_probability"):
        assert np.array_equal(logits(inference, GROUP), logits(inference, other))
        assert not made(inference)[0].needs_group_at_inference
    assert not np.array_equal(logits("known", GROUP), logits("known", other))
    assert made("known")[0].needs_group_at_inference
    assert not DomainIndependent.needs_group_at_inference


def test_the_two_inferences_that_need_no_group_can_differ() -> None:
    """One sure slice outweighs two unsure ones in the sum of logits, not in the mean."""
    baseline, model, _, _ = made()
    model.head.weight.data.zero_()
    model.head.bias.data = torch.tensor([9.0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0])
    image, nobody = torch.zeros(1, 3, 2, 2), torch.tensor([-1])
    mixture = DomainIndependent(
        DomainIndependent.Config(inference="mean_probability"), baseline.task
    )
    assert int(baseline.logits(model, image, nobody).argmax()) == 0
    assert int(mixture.logits(model, image, nobody).argmax()) == 1


@pytest.mark.parametrize("inference", ["sum_out", "known"])
def test_a_pruned_model_predicts_outside_the_sweep(inference: str, tmp_path: Path) -> None:
    data = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    dataset = load_dataset(data, cache_dir=tmp_path / "cache")
    recipe = {"epochs": 1, "batch_size": 16, "normalise": "imagenet"}
    document = {
        "backbone": "resnet18",
        "baseline": {
            "name": "domain_independent", "inference": inference, "training": recipe,
        },
        "prune": {"criterion": "random", "ratio": 0.1, "finetune": recipe},
        "n": 1,
    }  # fmt: skip
    trial = validate(Trial, document, place="test").resolved()
    store = Store(str(tmp_path / "store"))
    key = run_trial(trial, dataset, store)["key"]
    inner, _ = load_model(store, key, trial, make_baseline(trial, dataset))
    assert tuple(inner.head.weight.shape) == (3 * 2, 512 - 51)
    folder = save_portable(store, key, tmp_path / "model", {"groups": dataset.groups})
    model = load_portable(folder)
    images, groups = dataset.images_NHWC[:8], np.array([0, 1] * 4)
    assert model.needs_group == (inference == "known")
    if inference == "known":
        with pytest.raises(UserError, match="needs each image's group"):
            model.logits(images)
        own, other = model.logits(images, groups), model.logits(images, 1 - groups)
        assert not np.allclose(own, other)
    else:
        assert np.array_equal(model.logits(images), model.logits(images, groups))
