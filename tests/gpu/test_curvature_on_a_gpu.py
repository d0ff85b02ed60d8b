"""The diagonal curvature and what derives from it, on a GPU; run by `pytest -m gpu`."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.baselines.base import Task
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.models.classifier import Classifier
from trainables.node import load_model, make_baseline, to_device
from trainables.pruning.curvature import group_curvature, logits_of
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import run_trial
from trainables.trial_spec import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
RECIPE = {"epochs": 1, "batch_size": 32, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=160, image_size=64, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


class Smooth(nn.Module):
    """No ReLU: with one, an activation that rounds to the other side of zero changes a gradient by
    percents, and hides whether the arithmetic is float32's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3)
        self.norm = nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, 64, 3, stride=2)
        self.fc = nn.Linear(64, 3)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        feature_NCHW = self.norm(self.conv(image_NCHW)).tanh()
        return self.fc(self.second(feature_NCHW).tanh().mean((2, 3)))


@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize("kind", ["gauss_newton", "gauss_newton_mc", "fisher"])
def test_cpu_and_gpu_agree_whatever_else_is_in_bf16(kind: Any, chunk_size: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    image_NCHW = torch.rand(6, 3, 32, 32, generator=generator)
    label_N, group_N = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 0, -1, 1, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Classifier(Smooth())
    torch.backends.cudnn.allow_tf32 = True
    found = []
    for device in ("cpu", "cuda"):
        model = to_device(model, torch.device(device))
        image, label, group = (value.to(device) for value in (image_NCHW, label_N, group_N))
        with torch.autocast(device, dtype=torch.bfloat16):
            diagonal, num_G = group_curvature(
                logits_of(model, Vanilla(Vanilla.Config(), Task(3, 2))),
                dict(model.named_parameters()),
                [(image, label, group, group)],
                2,
                kind=kind,
                generator=torch.Generator().manual_seed(2),
                chunk_size=chunk_size,
            )
        assert num_G.tolist() == [2, 3]
        found.append({name: value.cpu() for name, value in diagonal.items()})
    assert torch.backends.cudnn.allow_tf32
    for name, value in found[0].items():
        assert float(value.max()) > 0
        error = (found[1][name] - value).abs().max() / value.max()
        assert float(error) < 5e-5, name


@pytest.mark.parametrize("backbone", ["resnet18", "vgg11"])
@pytest.mark.parametrize("name", ["obd", "fairprune"])
def test_derived_models_keep_their_masks_in_bf16(
    name: str, backbone: str, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = {
        "backbone": backbone,
        "baseline": {"name": name, "training": RECIPE},
        "prune": {"criterion": "snnl", "ratio": 0.1, "finetune": RECIPE},
        "n": 1,
    }
    trial = validate(Trial, document, place="test").resolved("cuda")
    store = Store(str(tmp_path_factory.mktemp("store")))
    node = run_trial(trial, dataset, store, device="cuda")
    root = run_trial(trial.chain[0], dataset, store, device="cuda")
    print(name, backbone, root["execution"]["seconds"], root["execution"]["notes"])
    empty, _ = load_model(store, root["key"], trial.chain[0], make_baseline(trial, dataset))
    total = sum(mask.numel() for mask in empty.masks.values())
    assert root["model"]["num_masked"] == int(0.35 * total)
    model, _ = load_model(store, node["key"], trial, make_baseline(trial, dataset))
    for parameter, mask in model.masks.items():
        weight = model.get_parameter(parameter)
        assert weight.shape == mask.shape
        assert not bool(weight[mask == 0].any())
