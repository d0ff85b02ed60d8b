"""The scoring pass: what a net puts out over training images, fed to criteria.

Shape legend: N images, C channels, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.profiler import record_function

from trainables.baselines.base import Baseline
from trainables.data.base import TRAIN
from trainables.models.classifier import Classifier
from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.coupling import CoupledParameter, coupled_parameters
from trainables.pruning.layers import Unit, units
from trainables.pruning.statistics import Sites
from trainables.pruning.surgery import num_channels, site_module
from trainables.registry import criteria
from trainables.scored_curvature import curvature_of
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial_spec import Prune


def score_channels(
    model: Classifier, prune: Prune, trainer: Trainer, baseline: Baseline | None = None
) -> Tensor:
    """``score_C`` of one layer's channels by one criterion; see ``score_criteria``."""
    (score_C,) = score_criteria(model, [prune], trainer, baseline)[0].values()
    return score_C


def score_criteria(
    model: Classifier,
    prunes: Sequence[Prune],
    trainer: Trainer,
    baseline: Baseline | None = None,
    better_served: Callable[[], int] | None = None,
) -> list[dict[str, Tensor]]:
    """Scores of all channels of all layers of each ``Prune``: unit's layer -> CPU float32.

    In eval mode, without augmentation. Criteria that read the same images in the same order share
    one forward pass a batch (and one backward pass, where one of them reads gradients) over all
    their layers, and score as they do alone. Where channels of several named layers go together,
    the score is the mean of what a criterion gives at each of those layers; a criterion that reads
    weights is asked once, about all of them.

    Args:
        model: the net that is scored.
        prunes: resolved; the recipes' ``normalise`` is that of the model.
        trainer: its seed and iteration are those of the stream ``select``.
        baseline: its inference gives the loss of gradients and curvature; else the model's own
            outputs do.
        better_served: index of the group a baseline of ``privileged: auto`` prefers.

    Raises:
        ScoringError: a criterion cannot be computed from this data, or a score is not finite.
    """
    model.eval()
    scoring = _Scoring(model, trainer, baseline, better_served)
    jobs = [scoring.job(prune) for prune in prunes]
    waiting = [job for job in jobs if _is_fed(job.cls)]
    while waiting:
        shared = [job for job in waiting if job.reads_like(waiting[0])]
        waiting = [job for job in waiting if not job.reads_like(shared[0])]
        with torch.no_grad():
            scoring.feed(shared)
    # of several processes, each of which rounds its own way, all go by the first one's
    return trainer.replicas.same([job.scores() for job in jobs])


def scoring_rows(
    model: Classifier, prune: Prune, trainer: Trainer, baseline: Baseline | None = None
) -> list[Tensor]:
    """Rows of the data set that a criterion reads, a batch each; empty where it reads none."""
    scoring = _Scoring(model, trainer, baseline, None)
    return [scoring.train_rows[batch] for batch in scoring.job(prune).order]


PASS_PIXELS, GRADIENT_PIXELS = 1 << 24, 1 << 23
"""Pixels that go through the net at once on a GPU where a criterion's batch is smaller: 1,024
images of 128 px, 512 where gradients are taken, which keep every layer's maps."""


def images_at_once(image_size: int, *, gradients: bool) -> int:
    """How many images a scoring pass puts through the net together on a GPU."""
    return max(1, (GRADIENT_PIXELS if gradients else PASS_PIXELS) // image_size**2)


@dataclass
class _Job:
    """One ``Prune``: its criterion at each place that it scores."""

    prune: Prune
    cls: type[Criterion]
    order: list[Tensor]  # rows of the training split, a batch each; empty where no image is read
    at: dict[Unit, dict[str, Criterion]]  # unit -> layer -> criterion

    def reads_like(self, other: _Job) -> bool:
        """Whether both read the same images in the same batches."""
        return (
            self.prune.finetune.normalise == other.prune.finetune.normalise
            and len(self.order) == len(other.order)
            and all(torch.equal(a, b) for a, b in zip(self.order, other.order, strict=True))
        )

    def places(self) -> Iterator[tuple[str, str, Criterion]]:
        """(layer, site, criterion) of every place."""
        for unit, members in self.at.items():
            for layer, criterion in members.items():
                yield layer, unit.site, criterion

    def scores(self) -> dict[str, Tensor]:
        """Unit's layer -> score_C."""
        found = {}
        for unit, members in self.at.items():
            each = [criterion.score() for criterion in members.values()]
            score_C = each[0] if len(each) == 1 else torch.stack(each).mean(0)
            num_bad = int((~score_C.isfinite()).sum())
            if num_bad:
                raise ScoringError(f"{self.cls.name}: {num_bad} channel scores are not finite")
            found[unit.layer] = score_C
        return found


class _Scoring:
    """The model, its images, and what criteria are told of them."""

    def __init__(
        self,
        model: Classifier,
        trainer: Trainer,
        baseline: Baseline | None,
        better_served: Callable[[], int] | None,
    ) -> None:
        self.model, self.trainer, self.baseline = model, trainer, baseline
        self.better_served = better_served
        rows, group_N = torch.from_numpy(trainer.data.dataset.indices(TRAIN)), trainer.data.group_N
        if baseline is not None and baseline.needs_group_at_inference:
            rows = rows[group_N.cpu()[rows] >= 0]  # such a net has no answer to the others
        self.train_rows, self.group_N = rows, group_N.cpu()[rows]

    def job(self, prune: Prune) -> _Job:
        """The criterion of a ``Prune`` at each place, told what its class asks for."""
        cls = criteria.get(prune.criterion.name)
        dataset, net = self.trainer.data.dataset, self.model.net
        generator = stream(self.trainer.seed, "select", self.trainer.iteration)
        where = units(net, prune.layer, prune.site)
        weights: dict[Unit, tuple[CoupledParameter, ...]] = {}
        if cls.needs_weights:
            heads = self.baseline.feature_heads(self.model) if self.baseline else ()
            weights = {u: coupled_parameters(self.model, u.layer, u.site, heads) for u in where}
        curvature = None
        if cls.needs_curvature:
            if self.baseline is None:
                raise ValueError(f"{cls.name} needs the baseline: its loss is curved")
            curvature = curvature_of(
                self.model,
                self.baseline,
                {each.name: each.value for unit in weights.values() for each in unit},
                self.trainer,
                self.train_rows,
                prune.finetune,
                generator,
            )

        def made(unit: Unit, layer: str) -> Criterion:
            context = ScoringContext(
                num_channels=num_channels(net, layer),
                num_groups=len(dataset.groups),
                generator=generator,
                attribute=dataset.attribute,
                groups=dataset.groups,
                weights=weights.get(unit, ()),
                curvature=curvature,
                better_served=self.better_served,
            )
            criterion = cls(prune.criterion, context)
            assert isinstance(criterion, Criterion)
            return criterion

        order = []
        if _is_fed(cls):
            order = cls.scoring_order(prune.criterion, self.group_N, generator)
        layers = {u: u.members if _is_fed(cls) else (u.layer,) for u in where}
        at = {u: {layer: made(u, layer) for layer in layers[u]} for u in where}
        return _Job(prune, cls, order, at)

    @record_function("scoring pass")
    def feed(self, jobs: list[_Job]) -> None:
        """One pass over the images that all the jobs read."""
        data, recipe = self.trainer.data, jobs[0].prune.finetune
        with_gradients = any(job.cls.needs_gradients for job in jobs)
        name_of = {module: name for name, module in self.model.net.named_modules()}
        places = [
            (layer, name_of[site_module(self.model.net, layer, site)], criterion)
            for job in jobs
            for layer, site, criterion in job.places()
        ]
        modules = {name: self.model.net.get_submodule(name) for _, name, _ in places}
        # a criterion whose sums cannot be put together reads every batch in every process
        replicas, apart = self.trainer.replicas, all(c.state() is not None for *_, c in places)
        own = slice(replicas.rank, None, replicas.size) if apart else slice(None)
        with Sites(modules) as sites:
            for batches in self._passes(jobs[0].order[own], with_gradients):
                rows = self.train_rows[torch.cat(batches)]
                known = data.on_cpu.at(rows)
                told = data.labels.at(data.on_device(rows))
                image_NCHW = self.trainer.eval_images(recipe, rows)
                gradient: dict[str, Tensor] = {}
                if with_gradients:
                    logits_NK = partial(self._logits, image_NCHW, told.group_N)
                    gradient = sites.run_with_gradients(logits_NK, told.label_N)
                else:
                    sites.run(partial(self._outputs, image_NCHW, told.group_N))
                for layer, name, criterion in places:
                    self._note_one_pixel(layer, sites.output[name], criterion)
                    together = ScoringBatch(
                        sites.output[name],
                        gradient[name] if criterion.needs_gradients else None,
                        told.label_N, told.group_N, further=told.further, known=known,
                    )  # fmt: skip
                    criterion.update_together(together, list(map(len, batches)))
        if apart and replicas.size > 1:
            self._put_together([criterion for *_, criterion in places])

    def _passes(self, order: list[Tensor], gradients: bool) -> Iterator[list[Tensor]]:
        """Batches that go through the net together. Small ones leave a GPU idle; on a CPU a batch
        goes alone, because another size may round otherwise.
        """
        data, most = self.trainer.data, 0
        if data.device.type == "cuda":
            most = images_at_once(data.dataset.image_size, gradients=gradients)
        together: list[Tensor] = []
        for batch in order:
            if together and sum(map(len, together)) + len(batch) > most:
                yield together
                together = []
            together.append(batch)
        if together:
            yield together

    def _put_together(self, criteria: list[Criterion]) -> None:
        """Each takes in what the other processes' were fed."""
        replicas = self.trainer.replicas
        for rank, states in enumerate(replicas.each([each.state() for each in criteria])):
            if rank != replicas.rank:
                for criterion, state in zip(criteria, states, strict=True):
                    criterion.merge(state)

    def _outputs(self, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        with self.trainer.autocast():
            outputs: Tensor = self.model(image_NCHW, group_N)
        return outputs

    def _logits(self, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        if self.baseline is None:
            return self._outputs(image_NCHW, group_N)
        with self.trainer.autocast():
            return self.baseline.logits(self.model, image_NCHW, group_N)

    def _note_one_pixel(self, layer: str, feature_NCHW: Tensor, criterion: Criterion) -> None:
        note = criterion.one_pixel_note()
        if feature_NCHW.shape[2] * feature_NCHW.shape[3] == 1 and note:
            size = self.trainer.data.dataset.image_size
            self.trainer.note(f"feature maps of {layer} are 1 x 1 at image size {size}: {note}")


def _is_fed(cls: type[Criterion]) -> bool:
    return cls.needs_features or cls.needs_gradients
