"""Several processes compute what one computes: real processes, on CPUs, that talk by gloo."""

import multiprocessing
import traceback

import numpy as np
import pytest
import torch
from torch import nn

from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.models.classifier import Classifier
from trainables.node import make_baseline, with_plan
from trainables.pruning.skewness import Skewness
from trainables.replicas import Replicas, free_address, join, leave
from trainables.scoring import score_criteria
from trainables.store import Store
from trainables.together import run_together
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import Prune, Trial

DATA = Synthetic.Config(num_images=90, image_size=32)
RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.02, "sampling": "natural"}
CRITERIA = ("snnl", "hsic", "taylor", "skewness", "magnitude", "fairprune", "random")


@pytest.mark.parametrize(("number", "size"), [(10, 3), (2, 2), (7, 4), (5, 1), (1, 2)])
def test_parts_are_everything_once_and_nearly_equal(number, size):
    parts = [Replicas(rank, size).part(number) for rank in range(size)]
    assert np.concatenate([np.arange(number)[part] for part in parts]).tolist() == [*range(number)]
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def trial(baseline: str, **update) -> Trial:
    document = {
        "backbone": {"name": "resnet18"},
        "baseline": {"name": baseline, "training": RECIPE},
    }
    return Trial.model_validate(document | update).resolved("cpu")


def small_model(made) -> Classifier:
    """Without BatchNorm and dropout a part of a batch has the gradient that it has in the whole.
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, made.num_outputs()),
    )  # fmt: skip
    return with_plan(Classifier(net), made, {})


def trained(replicas: Replicas, baseline: str):
    """A model after one epoch, its curves, its logits of all images, and its channels' scores."""
    dataset, spec = load_dataset(DATA), trial(baseline)
    made = make_baseline(spec, dataset)
    trainer = Trainer(
        DeviceData(dataset, torch.device("cpu")), spec.compute, 0, 0, replicas=replicas
    )
    model = small_model(made)
    made.begin(model, [])
    curves = trainer.fit(model, made, spec.baseline.training)
    logits_NK = trainer.logits(model, made, spec.baseline.training, np.arange(31))
    prunes = [
        Prune.model_validate({"criterion": {"name": name}, "layer": "2", "site": "conv"})
        for name in CRITERIA
    ]
    scores = score_criteria(model, prunes, trainer, made, better_served=lambda: 0)
    return {
        "weights": {name: value.numpy() for name, value in model.state_dict().items()},
        "curves": curves,
        "logits": logits_NK.numpy(),
        "scores": {
            prune.criterion.name: next(iter(each.values())).numpy()
            for prune, each in zip(prunes, scores, strict=True)
        },
    }


def one_of_two(rank: int, address: str, answers) -> None:
    torch.set_num_threads(1)
    try:
        replicas = join(rank, 2, address, "cpu")
        found = {name: trained(replicas, name) for name in ("vanilla", "domain_independent")}
        # BatchNorm of a group is reached by the process alone that has images of it
        free = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
        optimizer = torch.optim.SGD(free, lr=1.0, weight_decay=0.5)
        with replicas.averaging(optimizer):
            replicas.share = 0.25 if rank == 0 else 0.75
            (free[0] * (rank + 1)).sum().backward()
            if rank == 0:
                free[1].sum().backward()
            optimizer.step()
        found["unequal"] = [each.detach().numpy() for each in free]
        found["same"] = replicas.same(rank)
        found["means"] = replicas.means({"a": float(rank)} | ({"b": 2.0} if rank else {}))
        leave()
        answers.put((rank, found))
    except Exception:
        answers.put((rank, traceback.format_exc()))


def test_two_processes_compute_what_one_does():
    context = multiprocessing.get_context("spawn")
    answers, address = context.Queue(), free_address()
    processes = [
        context.Process(target=one_of_two, args=(rank, address, answers)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    alone = {name: trained(Replicas(), name) for name in ("vanilla", "domain_independent")}
    found = dict(answers.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    for rank in (0, 1):
        assert isinstance(found[rank], dict), found[rank]
    for name, expected in alone.items():
        first, second = found[0][name], found[1][name]
        for key, value in expected["weights"].items():
            np.testing.assert_allclose(
                first["weights"][key], value, rtol=1e-3, atol=2e-6, err_msg=f"{name} {key}"
            )
            np.testing.assert_array_equal(first["weights"][key], second["weights"][key])
        np.testing.assert_allclose(first["logits"], expected["logits"], atol=1e-5)
        np.testing.assert_array_equal(first["logits"], second["logits"])
        assert first["curves"] == second["curves"]
        for key, value in expected["curves"][0].items():
            assert first["curves"][0][key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
        for criterion, score_C in expected["scores"].items():
            scale = np.abs(score_C).max()
            np.testing.assert_allclose(
                first["scores"][criterion] / scale, score_C / scale, atol=1e-4, err_msg=criterion
            )
            np.testing.assert_array_equal(first["scores"][criterion], second["scores"][criterion])
    # 1 - (1/4 * 1 + 3/4 * 2) - 1/2; 1 - 1/4 - 1/2; what no process reached stays
    for rank in (0, 1):
        for tensor, value in zip(found[rank]["unequal"], (-1.25, 0.25, 1.0), strict=True):
            np.testing.assert_allclose(tensor, value)
        assert found[rank]["same"] == 0
        assert found[rank]["means"] == {"a": 0.5, "b": 2.0}


def test_moments_of_two_halves_are_those_of_the_whole():
    from trainables.pruning.base import ScoringBatch, ScoringContext

    feature_NCHW = torch.randn(12, 3, 2, 2, generator=torch.Generator().manual_seed(0)).exp()
    context = ScoringContext(num_channels=3, num_groups=2, generator=torch.Generator())
    for over in ("all", "map"):
        whole, left, right = (Skewness(Skewness.Config(over=over), context) for _ in range(3))
        for criterion, rows in ((whole, slice(0, 12)), (left, slice(0, 5)), (right, slice(5, 12))):
            number = torch.zeros(len(feature_NCHW[rows]), dtype=torch.int64)
            criterion.update(ScoringBatch(feature_NCHW[rows], None, number, number))
        left.merge(right.state())
        torch.testing.assert_close(left.score(), whole.score())


def test_a_trial_of_two_processes(tmp_path):
    spec = trial("vanilla", compute={"world_size": 2})
    with pytest.raises(ValueError, match="1 processes for a trial of world_size 2"):
        run_trial(spec, load_dataset(DATA), Store(str(tmp_path)))


@pytest.mark.slow
def test_a_trial_of_two_processes_run_without_ray(tmp_path):
    update = {"prune": {"criterion": {"name": "fairprune"}, "finetune": RECIPE}, "n": 1}
    spec = trial("vanilla", compute={"world_size": 2}, **update)
    node = run_together(spec, DATA, str(tmp_path), "cpu")
    assert Store(str(tmp_path)).node(node["key"])["trial"]["compute"]["world_size"] == 2
    again = run_together(spec, DATA, str(tmp_path), "cpu")
    assert again["execution"] == node["execution"]  # found, not computed

    alone = trial("vanilla", **update)
    store = Store(str(tmp_path / "alone"))
    expected = run_trial(alone, load_dataset(DATA), store)
    assert expected["key"] != node["key"]
