"""A net with a three-channel convolution and a few 8 x 8 images: small enough for plain loops."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainables.baselines.base import Task
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import Dataset, FurtherAttribute
from trainables.data.device import DeviceData
from trainables.models.classifier import Classifier
from trainables.scoring import score_channels
from trainables.training import Trainer
from trainables.trial_spec import Compute, Prune

NUM_IMAGES, SIZE, NUM_CLASSES = 30, 8, 3
GROUP = [0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, -1, 0, 1, 0]
GROUP += [0, 1, 0, 1, 1, 0, 0, 1, 0, -1, 1, 0, 1, 0, 1]


def dataset() -> Dataset:
    """Twenty training images (every third is another split's), two of them of unknown group."""
    draw = np.random.default_rng(3)
    split_N = np.array([0, 0, 1, 0, 0, 2] * (NUM_IMAGES // 6), dtype=np.int8)
    names = np.array([f"image-{number}" for number in range(NUM_IMAGES)])
    return Dataset(
        name="three", attribute="tone", image_size=SIZE,
        classes=("a", "b", "c"), groups=("dark", "light"),
        images_NHWC=draw.integers(0, 256, (NUM_IMAGES, SIZE, SIZE, 3), dtype=np.uint8),
        label_N=draw.integers(0, NUM_CLASSES, NUM_IMAGES),
        group_N=np.array(GROUP), split_N=split_N, image_id_N=names, patient_id_N=names,
        fingerprint="f" * 64, group_digest="g" * 64,
        further={"age": FurtherAttribute(("young", "old"), draw.integers(0, 2, NUM_IMAGES))},
    )  # fmt: skip


class ThreeChannels(nn.Module):
    """first (3 channels) -> norm -> ReLU in place -> second -> pooling -> fc."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, stride=2)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(3, 2, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, NUM_CLASSES)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        map_NCHW = self.relu(self.norm(self.first(image_NCHW)))
        return self.fc(self.pool(self.second(map_NCHW)).flatten(1))


def model(with_norm: bool = False) -> Classifier:
    """Random weights, large enough that maps and losses differ between images; no channel is
    dead.
    """
    generator = torch.Generator().manual_seed(8)
    net = ThreeChannels(with_norm)
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    net.first.bias.data -= net.first.weight.data.sum((1, 2, 3)) / 2  # images are 0.5 on average
    if with_norm:
        net.norm.weight.data.uniform_(-1.5, 1.5, generator=generator)
        mean_C = net.first.bias + net.first.weight.sum((1, 2, 3)) / 2
        net.norm.running_mean.copy_(mean_C.detach())
        net.norm.running_var.uniform_(0.5, 2, generator=generator)
    return Classifier(net).eval()


def trainer() -> Trainer:
    """On the CPU, seed 0, iteration 1."""
    data = DeviceData(dataset(), torch.device("cpu"))
    return Trainer(data, Compute().resolved("cpu"), seed=0, iteration=1)


def prune(criterion: str, *, layer: str = "first", site: str = "conv", **options: object) -> Prune:
    """An arm by its criterion's name and options."""
    return Prune(criterion={"name": criterion} | options, layer=layer, site=site)


def vanilla() -> Vanilla:
    """The baseline of the net."""
    return Vanilla(Vanilla.Config(), Task(num_classes=NUM_CLASSES, num_groups=2))


def scores(criterion: str, *, with_norm: bool = False, **options: object) -> list[float]:
    """Scores of the first convolution through the real scoring pass."""
    arm = prune(criterion, **options)
    return score_channels(model(with_norm), arm, trainer(), vanilla()).tolist()


def images(rows: Sequence[int]) -> list:
    """What the net is given of some rows: nested lists [image][colour][y][x]."""
    pixels = dataset().images_NHWC[list(rows)].astype(np.float32) / np.float32(255)
    return list(pixels.transpose(0, 3, 1, 2).astype(float).tolist())


def train_rows(known: bool = False) -> list[int]:
    """Rows of the training split; only those of known group if so asked."""
    rows = np.flatnonzero(dataset().split_N == 0).tolist()
    return [row for row in rows if not known or GROUP[row] >= 0]


def first_maps(rows: Sequence[int], with_norm: bool = False) -> list:
    """Output of the first convolution (and its BatchNorm), by loops: [image][channel][y][x]."""
    net = model(with_norm).net
    weight, bias = net.first.weight.double().tolist(), net.first.bias.double().tolist()
    out = []
    for image in images(rows):
        maps = []
        for k in range(3):
            side = (SIZE - 3) // 2 + 1
            values = [[0.0] * side for _ in range(side)]
            for y in range(side):
                for x in range(side):
                    value = bias[k]
                    for c in range(3):
                        for dy in range(3):
                            for dx in range(3):
                                value += weight[k][c][dy][dx] * image[c][2 * y + dy][2 * x + dx]
                    if with_norm:
                        n = net.norm
                        value -= n.running_mean[k].item()
                        value *= n.weight[k].item() / (n.running_var[k].item() + n.eps) ** 0.5
                        value += n.bias[k].item()
                    values[y][x] = value
            maps.append(values)
        out.append(maps)
    return out
