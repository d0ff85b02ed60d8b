"""The training loop, shared by baselines and fine-tuning, and prediction.

Everything that could differ between two arms comes from the streams of (seed, purpose, iteration,
epoch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import record_function

from trainables.baselines.base import Baseline, Batch
from trainables.checkpoint import Standing
from trainables.data.augment import AugmentDraws, apply_eval, apply_train, draw, normalisation
from trainables.data.base import TRAIN, VALIDATION
from trainables.data.device import DeviceData
from trainables.data.graphed_augment import can_be_graphed, graphed_augment
from trainables.heartbeat import heart
from trainables.models.classifier import Classifier
from trainables.replicas import Replicas
from trainables.resuming import Checkpoints
from trainables.sampling import class_grouped
from trainables.streams import stream, stream_seed
from trainables.trial_spec import Compute, Recipe

EVAL_BATCH = 512

Report = Callable[[str, int, int], None]
"""Called with (what, done, in all) as epochs go by."""


class TrainingError(Exception):
    """Training went wrong in a way that running it again would repeat (a loss that is not a
    number).
    """


@dataclass(frozen=True)
class Trainer:
    """What stays the same over one trial: data, device, precision, the trial's seed."""

    data: DeviceData
    compute: Compute
    seed: int
    iteration: int
    notes: list[str] = field(default_factory=list)
    replicas: Replicas = field(default_factory=Replicas)

    def note(self, text: str) -> None:
        """Remember, once, what a user should know of this trial; it goes into its record."""
        if text not in self.notes:
            self.notes.append(text)

    def autocast(self) -> torch.autocast:
        """Bf16 where the spec says so."""
        enabled = self.compute.precision == "bf16"
        return torch.autocast(self.data.device.type, dtype=torch.bfloat16, enabled=enabled)

    def fit(
        self,
        model: Classifier,
        baseline: Baseline,
        recipe: Recipe,
        report: Report | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> list[dict[str, float]]:
        """Train in place, from an earlier attempt's checkpoint where there is one; returns one
        dict of metrics an epoch.

        Raises:
            TrainingError: the loss became NaN or infinite.
        """
        optimizer = baseline.optimizer(model, recipe)
        model.masks = {name: m.to(self.data.device) for name, m in model.masks.items()}
        self._begin_together(model, baseline, recipe)
        standing = Standing()
        if checkpoints is not None:
            for text in checkpoints.known.get("notes", ()):
                self.note(text)
            standing = checkpoints.resume(model, optimizer, baseline)
        curves = standing.curves
        for epoch in range(len(curves), recipe.epochs):
            rate = _learning_rate(recipe, epoch)
            for settings in optimizer.param_groups:
                settings["lr"] = rate
            with self.replicas.averaging(optimizer):
                logs = self._epoch(model, baseline, recipe, optimizer, epoch)
            self._end_epoch_together(model)
            logs |= {"learning_rate": rate} | self._validate(model, baseline, recipe, epoch)
            curves.append(logs)
            if report:
                report("epoch", epoch + 1, recipe.epochs)
            if recipe.early_stopping is not None:
                standing.takes(logs["validation_loss"], model)
                if standing.waited >= recipe.early_stopping.patience:
                    break
            if checkpoints is not None and epoch + 1 < recipe.epochs:
                checkpoints.offer(model, optimizer, baseline, standing, self.notes)
        if standing.best is not None:
            model.load_state_dict(standing.best)
        for text in baseline.notes(curves):
            self.note(text)
        return curves

    def _begin_together(self, model: Classifier, baseline: Baseline, recipe: Recipe) -> None:
        """Several processes begin with the same weights, and with batches they can share."""
        size = self.replicas.size
        if size == 1:
            return
        smallest = min(map(len, self.batches(recipe, 0)))
        if smallest < 2 * size:
            raise TrainingError(
                f"a batch of {smallest} images is too small for {size} processes: each needs two"
            )
        self.replicas.agree([*model.state_dict().values(), *model.masks.values()])
        if baseline.couples_images:
            self.note(
                f"{baseline.config.name} reads a batch as a whole: each of the {size} processes "
                "read its own part as one"
            )

    def _end_epoch_together(self, model: Classifier) -> None:
        """Running statistics of all processes; what no optimiser trains is the first one's."""
        self.replicas.average(list(model.buffers()))
        self.replicas.agree([p.detach() for p in model.parameters()])

    @record_function("epoch")
    def _epoch(
        self,
        model: Classifier,
        baseline: Baseline,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        epoch: int,
    ) -> dict[str, float]:
        model.train()
        # dropout draws from the device's global generator
        seed = stream_seed(self.seed, "dropout", self.iteration, epoch)
        torch.manual_seed(seed + self.replicas.rank)  # parts of a batch drop different units
        sums: dict[str, Tensor] = {}
        steps = 0
        for batch in self.training_batches(recipe, epoch):
            steps += 1
            with record_function("training step"):
                logs = baseline.step(model, batch, optimizer, self.autocast())
            model.apply_masks()
            for name, value in logs.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value
        means = self.replicas.means(
            {f"train_{name}": float(total) / steps for name, total in sums.items()}
        )
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"{bad[0]} is {means[bad[0]]} in epoch {epoch + 1} of {recipe.epochs}"
            )
        return means

    def training_batches(self, recipe: Recipe, epoch: int) -> Iterator[Batch]:
        """The augmented batches of one epoch (of several processes: this one's parts), on the
        device.
        """
        batches = self.batches(recipe, epoch)
        # a whole epoch's numbers move at once: a copy a step would make the GPU wait for each
        row_E = torch.cat(batches)
        on_device_E = self.data.on_device(row_E)
        size = self.data.dataset.image_size
        draws = draw(
            recipe.augment, len(row_E), stream(self.seed, "augment", self.iteration, epoch)
        ).prepared(
            recipe.augment, self.data.dataset.images_NHWC.shape[1:3], size, self.data.device
        )
        own_parts = []
        start = 0
        for whole in batches:
            part = self.replicas.part(len(whole))
            own_parts.append(slice(start + part.start, start + part.stop))
            start += len(whole)
        images = self._augmented(recipe, row_E, on_device_E, own_parts, draws)
        for number, (own, image_NCHW) in enumerate(zip(own_parts, images, strict=True)):
            self.replicas.share = (own.stop - own.start) / len(batches[number])
            on_device = on_device_E[own]
            yield Batch(
                image_NCHW=image_NCHW,
                label_N=self.data.label_N[on_device],
                group_N=self.data.group_N[on_device],
                progress=(epoch + number / len(batches)) / recipe.epochs,
            )

    def _augmented(
        self,
        recipe: Recipe,
        row_E: Tensor,
        on_device_E: Tensor,
        own_parts: list[slice],
        draws: AugmentDraws,
    ) -> Iterator[Tensor]:
        """Images (N, 3, S, S) of each part of an epoch; ``draws`` are prepared."""
        mean, std = normalisation(recipe.normalise)
        size, resident_AHWC = self.data.dataset.image_size, self.data.resident
        if resident_AHWC is not None and all(
            can_be_graphed(recipe.augment, own.stop - own.start, size) for own in own_parts
        ):
            for own in own_parts:
                heart.beat()
                packed_NP = draws[own].packed_NP
                assert packed_NP is not None
                augmented = graphed_augment(
                    resident_AHWC, recipe.augment, packed_NP, size, mean, std, _layout
                )
                yield augmented(on_device_E[own], packed_NP)
            return
        source_E = row_E if resident_AHWC is None else on_device_E
        images = self.data.images_ahead(source_E[own] for own in own_parts)
        for own, image_NHWC in zip(own_parts, images, strict=True):
            yield _layout(
                apply_train(
                    recipe.augment, image_NHWC, draws[own], image_size=size, mean=mean, std=std
                )
            )

    def batches(self, recipe: Recipe, epoch: int) -> list[Tensor]:
        """Row numbers of each batch of one epoch; the last partial batch is dropped unless it is
        the only one.
        """
        dataset = self.data.dataset
        rows = torch.from_numpy(dataset.indices(TRAIN))
        generator = stream(self.seed, "order", self.iteration, epoch)
        if recipe.sampling == "class_grouped":
            label_N = dataset.label_N[rows]
            return [rows[b] for b in class_grouped(label_N, recipe.batch_size, generator)]
        if recipe.sampling == "natural":
            order = rows[torch.randperm(len(rows), generator=generator)]
        else:
            weight_N = _sampling_weights(
                dataset.label_N[rows], dataset.group_N[rows], recipe.sampling
            )
            picks = torch.multinomial(weight_N, len(rows), replacement=True, generator=generator)
            order = rows[picks]
        batches = list(order.split(recipe.batch_size))
        if len(batches) > 1 and len(batches[-1]) < recipe.batch_size:
            batches.pop()
        return batches

    @record_function("validation")
    def _validate(
        self, model: Classifier, baseline: Baseline, recipe: Recipe, epoch: int
    ) -> dict[str, float]:
        rows = self.data.dataset.indices(VALIDATION)
        logits_NK = self.logits(model, baseline, recipe, rows).cpu()
        label_N = torch.from_numpy(self.data.dataset.label_N[rows])
        loss = float(functional.cross_entropy(logits_NK, label_N))
        if not math.isfinite(loss):
            raise TrainingError(
                f"validation loss is {loss} in epoch {epoch + 1} of {recipe.epochs}"
            )
        return {
            "validation_loss": loss,
            "validation_accuracy": float((logits_NK.argmax(1) == label_N).float().mean()),
        }

    @record_function("predictions")
    def predict(
        self, model: Classifier, baseline: Baseline, recipe: Recipe, rows: np.ndarray
    ) -> np.ndarray:
        """float16 logits (N, K) of the rows, as they are stored.

        Raises:
            TrainingError: a logit is not finite in float16; the model is of no use.
        """
        logits_NK = self.logits(model, baseline, recipe, rows).half().cpu().numpy()
        if not np.isfinite(logits_NK).all():
            raise TrainingError(f"logits of {len(rows)} images are not finite after training")
        return logits_NK

    @torch.inference_mode()
    def logits(
        self, model: Classifier, baseline: Baseline, recipe: Recipe, rows: np.ndarray
    ) -> Tensor:
        """float32 logits (N, K) of the rows on the device, in eval mode."""
        model.eval()
        parts = [torch.zeros((0, baseline.task.num_classes), device=self.data.device)]
        own = torch.from_numpy(rows)[self.replicas.part(len(rows))]
        indices = own.split(EVAL_BATCH)
        for index, image_NHWC in zip(indices, self.data.images_ahead(indices), strict=True):
            image_NCHW = self._normalised(recipe, image_NHWC)
            group_N = self.data.group_N[self.data.on_device(index)]
            with self.autocast():
                part = baseline.logits(model, image_NCHW, group_N)
            parts.append(part.float())
        return self.replicas.gather(torch.cat(parts), len(rows))

    def eval_images(self, recipe: Recipe, rows: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) without augmentation."""
        return self._normalised(recipe, self.data.images(rows))

    def _normalised(self, recipe: Recipe, image_NHWC: Tensor) -> Tensor:
        mean, std = normalisation(recipe.normalise)
        size = self.data.dataset.image_size
        return _layout(apply_eval(image_NHWC, image_size=size, mean=mean, std=std))


def _layout(image_NCHW: Tensor) -> Tensor:
    """channels_last on a GPU, where convolutions are faster in it; a CPU result must not depend on
    it.
    """
    if image_NCHW.device.type == "cuda":
        return image_NCHW.contiguous(memory_format=torch.channels_last)
    return image_NCHW.contiguous()


def _learning_rate(recipe: Recipe, epoch: int) -> float:
    if recipe.schedule == "step":
        return recipe.learning_rate * recipe.gamma ** (epoch // recipe.step_size)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
    return recipe.learning_rate


def _sampling_weights(label_N: np.ndarray, group_N: np.ndarray, sampling: str) -> Tensor:
    """Inverse frequency of each image's class, group, or both; rows of unknown group get 0 where
    groups matter.
    """
    cell_N = {
        "class": label_N,
        "group": group_N,
        "class_group": label_N * (group_N.max() + 2) + group_N + 1,
    }[sampling]
    _, inverse, counts = np.unique(cell_N, return_inverse=True, return_counts=True)
    weight_N = 1.0 / counts[inverse]
    if sampling != "class":
        weight_N = np.where(group_N < 0, 0.0, weight_N)
    return torch.from_numpy(weight_N)
