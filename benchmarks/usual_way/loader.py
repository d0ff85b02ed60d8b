"""Training as it is usually written: JPEG files, PIL, torchvision transforms, a DataLoader.

Everything else (net, loss, optimizer, precision, memory format, scoring, surgery) is fatefront's,
so that what is measured is the pipeline and nothing else; the scoring pass reads fatefront's array
in memory, which favours the usual way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from trainables.baselines.base import Baseline, Batch
from trainables.data.augment import Augment, normalisation
from trainables.models.classifier import Classifier
from trainables.training import EVAL_BATCH, Trainer
from trainables.trial_spec import Recipe


def jpeg_paths(root: Path, image_ids: Sequence[str]) -> list[Path]:
    """The file of each image, wherever it is below ``root``.

    Raises:
        SystemExit: a file is missing.
    """
    found = {path.stem: path for path in root.rglob("*.jpg")}
    missing = [name for name in image_ids if name not in found]
    if missing:
        raise SystemExit(f"{root}: no JPEG file of {missing[0]} and {len(missing) - 1} more")
    return [found[name] for name in image_ids]


def train_transform(augment: Augment, size: int, normalise: str) -> v2.Compose:
    """fatefront's augmentation in the words of torchvision, on PIL images.

    Raises:
        ValueError: a part of the augmentation that is not written here.
    """
    if augment.autoaugment != "none" or augment.cutout or augment.interpolation != "bilinear":
        raise ValueError("only crop, flips, affine map, brightness and saturation are written")
    steps: list[object] = [v2.Resize(size)]
    steps += [v2.RandomCrop(size) if augment.crop else v2.CenterCrop(size)]
    steps += [
        v2.RandomHorizontalFlip(augment.horizontal_flip),
        v2.RandomVerticalFlip(augment.vertical_flip),
    ]
    if augment.warps:
        steps.append(
            v2.RandomAffine(
                augment.degrees, scale=augment.scale, shear=augment.shear or None,
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        )  # fmt: skip
    if augment.brightness or augment.saturation:
        steps.append(v2.ColorJitter(augment.brightness, saturation=augment.saturation))
    return v2.Compose([*steps, *_to_tensor(normalise)])


def eval_transform(size: int, normalise: str) -> v2.Compose:
    """Without augmentation."""
    return v2.Compose([v2.Resize(size), v2.CenterCrop(size), *_to_tensor(normalise)])


def _to_tensor(normalise: str) -> list[object]:
    mean, std = normalisation(normalise)
    return [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]


class JpegImages(Dataset[tuple[Tensor, int]]):
    """Image files, opened and transformed one at a time."""

    def __init__(self, paths: Sequence[Path], transform: v2.Compose) -> None:
        self.paths, self.transform = [str(path) for path in paths], transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[row]) as image:
            return self.transform(image.convert("RGB")), row


class _Batches:
    """A batch sampler whose batches are set anew each epoch, under one persistent loader."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True)
class LoaderTrainer(Trainer):
    """The trainer with its images from a DataLoader.

    Attributes:
        paths: file of each row of the data set.
        loader_workers: processes of the loader.
    """

    paths: Sequence[Path] = ()
    loader_workers: int = 4
    _loaders: dict[str, tuple[DataLoader[tuple[Tensor, int]], _Batches]] = field(
        default_factory=dict
    )

    def training_batches(self, recipe: Recipe, epoch: int) -> Iterator[Batch]:
        """As ``Trainer.training_batches``; augmentations come from PyTorch's global generator."""
        batches = [rows.tolist() for rows in self.batches(recipe, epoch)]
        size = self.data.dataset.image_size
        transform = train_transform(recipe.augment, size, recipe.normalise)
        for number, (image_NCHW, rows) in enumerate(self._load("train", transform, batches)):
            yield Batch(
                image_NCHW=self._on_device(image_NCHW),
                label_N=self.data.label_N[rows],
                group_N=self.data.group_N[rows],
                progress=(epoch + number / len(batches)) / recipe.epochs,
            )

    @torch.inference_mode()
    def logits(
        self, model: Classifier, baseline: Baseline, recipe: Recipe, rows: np.ndarray
    ) -> Tensor:
        """As ``Trainer.logits``."""
        model.eval()
        batches = [part.tolist() for part in torch.from_numpy(rows).split(EVAL_BATCH)]
        transform = eval_transform(self.data.dataset.image_size, recipe.normalise)
        parts = [torch.zeros((0, baseline.task.num_classes), device=self.data.device)]
        for image_NCHW, index in self._load("eval", transform, batches):
            with self.autocast():
                part = baseline.logits(
                    model, self._on_device(image_NCHW), self.data.group_N[index]
                )
            parts.append(part.float())
        return torch.cat(parts)

    def _load(
        self, kind: str, transform: v2.Compose, batches: list[list[int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if kind not in self._loaders:
            sampler = _Batches()
            loader = DataLoader(
                JpegImages(self.paths, transform), batch_sampler=sampler,  # type: ignore[arg-type]
                num_workers=self.loader_workers, pin_memory=self.data.device.type == "cuda",
                persistent_workers=self.loader_workers > 0,
                prefetch_factor=4 if self.loader_workers else None,
            )  # fmt: skip
            self._loaders[kind] = (loader, sampler)
        loader, sampler = self._loaders[kind]
        sampler.batches = batches
        yield from loader

    def _on_device(self, image_NCHW: Tensor) -> Tensor:
        on_gpu = self.data.device.type == "cuda"
        layout = torch.channels_last if on_gpu else torch.contiguous_format
        moved = image_NCHW.to(self.data.device, non_blocking=True)
        return moved.contiguous(memory_format=layout)
