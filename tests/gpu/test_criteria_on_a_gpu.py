"""Every criterion scores on a GPU what it scores on a CPU, and runs under bf16."""

from pathlib import Path

import pytest
import torch

from trainables.baselines.base import Task
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.models.classifier import Classifier
from trainables.node import to_device
from trainables.registry import backbones
from trainables.scoring import score_criteria
from trainables.specs import validate
from trainables.store import Store
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import Compute, Prune, Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CRITERIA = [
    {"name": "snnl"},
    {"name": "snnl", "distance": "euclidean", "scale": "mean", "condition": "class"},
    {"name": "snnl", "attributes": {"tone": 1.0, "sex": 0.5}},
    {"name": "hsic", "maps": "flat"},
    {"name": "taylor"},
    {"name": "skewness"},
    {"name": "skewness", "over": "all"},
    {"name": "magnitude", "fold_norm": True},
    {"name": "obd", "curvature": "fisher", "max_images": 32},
    {"name": "fairprune", "curvature": "gauss_newton_mc", "max_images": 32, "privileged": "dark"},
    {"name": "random"},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(
        num_images=160, image_size=64, classes=("nv", "mel", "bcc"), further_attributes=("sex",)
    )
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


def scores(device: str, precision: str, dataset: Dataset, layer: str) -> list[dict]:
    torch.backends.cudnn.allow_tf32 = False
    backbone = backbones.get("resnet18")
    net = backbone.build(backbone.Config(), 3, torch.Generator().manual_seed(0))
    model = to_device(Classifier(net), torch.device(device))
    site = "group" if layer == "all" else "block"
    prunes = [Prune(criterion=each, layer=layer, site=site) for each in CRITERIA]
    data = DeviceData(dataset, torch.device(device))
    trainer = Trainer(data, Compute(precision=precision), seed=0, iteration=1)
    baseline = Vanilla(Vanilla.Config(), Task(3, 2))
    return score_criteria(model, prunes, trainer, baseline)


@pytest.mark.parametrize("layer", ["layer4.1.conv2", "all"])
def test_a_gpu_scores_what_a_cpu_scores(layer: str, dataset: Dataset) -> None:
    found = [scores(device, "float32", dataset, layer) for device in ("cpu", "cuda")]
    for options, cpu, gpu in zip(CRITERIA, *found, strict=True):
        assert list(cpu) == list(gpu)
        for name, score_C in cpu.items():
            assert gpu[name].device.type == "cpu"
            spread = float(score_C.std())
            torch.testing.assert_close(
                gpu[name], score_C, rtol=1e-3, atol=1e-2 * spread + 1e-7,
                msg=lambda text, o=options, n=name: f"{o} at {n}: {text}",
            )  # fmt: skip


def test_bf16_keeps_the_order_of_channels(dataset: Dataset) -> None:
    """Maps and gradients are rounded, the statistics are not: rank correlation above 0.9."""
    full, low = (scores("cuda", p, dataset, "layer4.1.conv2") for p in ("float32", "bf16"))
    for options, exact, rounded in zip(CRITERIA, full, low, strict=True):
        ranks = [
            each["layer4.1.conv2"].argsort().argsort().double() for each in (exact, rounded)
        ]
        correlation = float(torch.corrcoef(torch.stack(ranks))[0, 1])
        assert correlation > 0.9, (options, correlation)


@pytest.mark.parametrize("criterion", ["taylor", "fairprune", "snnl"])
def test_a_trial_of_all_layers_runs_in_bf16(
    criterion: str, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = {"epochs": 1, "batch_size": 32, "learning_rate": 0.001}
    document = {
        "backbone": "resnet18",
        "baseline": {"name": "vanilla", "training": recipe},
        "prune": {"criterion": criterion, "layer": "all", "ratio": 0.2, "ranking": "global",
                  "finetune": recipe},
        "n": 2,
    }  # fmt: skip
    trial = validate(Trial, document, place="test").resolved("cuda")
    assert trial.compute.precision == "bf16"
    store = Store(str(tmp_path))
    nodes = [run_trial(step, dataset, store, device="cuda") for step in trial.chain]
    for fewer, more in zip(nodes[1:], nodes[:-1], strict=True):
        assert fewer["model"]["num_params"] < more["model"]["num_params"]
        assert fewer["model"]["flops"] < more["model"]["flops"]
