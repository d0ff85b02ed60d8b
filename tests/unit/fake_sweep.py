"""A schedule driven by hand: the real ledger, store, tree, sampler and metrics; only the training
is left out.

Counts of a node are drawn from its key, so the same key always has the same result.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.ledger.records import Ledger
from orchestrator.search.proposer import make_proposer
from orchestrator.search.schedule import FINISHED, Attempt, Budget, Schedule, result_of
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice
from trainables.data.synthetic import Synthetic
from trainables.metrics.confusion import counts_digest
from trainables.metrics.summary import summarise
from trainables.models.resnet import ResNet18
from trainables.store import Store
from trainables.trial_spec import DataIdentity

DATA = DataIdentity("f" * 64, "a" * 64)
CLASSES = ("nv", "mel")
NAN_LOSS = {"type": "TrainingError", "reason": "train_loss is nan", "infrastructure": False}
WORKER_LOST = {"type": "WorkerDied", "reason": "the worker died", "infrastructure": True}


def fake_spec(sampler: str = "grid", **changes: Any) -> SweepSpec:
    fields = {
        "name": "fake",
        "data": Synthetic.Config(num_images=60, image_size=32, classes=CLASSES),
        "backbone": ResNet18.Config(),
        "prune": {"criterion": "snnl", "ratio": choice(0.1, 0.3), "site": "conv"},
        "iterations": 2,
        "seeds": (0,),
        "search": Search(sampler=sampler),
    }
    return SweepSpec(**(fields | changes))


def wide_spec(sampler: str, **changes: Any) -> SweepSpec:
    """Large enough for a sampler to learn in: 5 x 4 x 3 configurations."""
    prune = {
        "criterion": {"name": "snnl", "temperature": choice(0.1, 0.5, 1.0, 5.0)},
        "ratio": choice(0.05, 0.1, 0.2, 0.3, 0.4),
        "site": "conv",
    }
    fields = {"prune": prune, "iterations": 3, "controls": ("none",)}
    return fake_spec(sampler, **(fields | changes))


def measured(key: str, groups: Sequence[str] = ("light", "dark")) -> dict[str, Any]:
    """What ``measure_node`` returns, of counts drawn from the key."""
    rng = np.random.default_rng(int(key[:8], 16))
    counts = {
        split: rng.integers(1, 60, (len(groups), len(CLASSES), len(CLASSES)))
        for split in ("train", "validation")
    }
    metrics = {
        split: summarise(count, groups=groups, classes=CLASSES) for split, count in counts.items()
    }
    metrics["validation"] |= {"auroc": rng.random(), "gap_debiased": rng.random()}
    return {
        "metrics": metrics,
        "counts_sha256": {split: counts_digest(count) for split, count in counts.items()},
    }


def equal_groups(key: str) -> dict[str, Any]:
    """The same with two groups that are treated alike: a gap of zero."""
    drawn = measured(key)
    count = np.random.default_rng(int(key[:8], 16)).integers(1, 60, (1, 2, 2)).repeat(2, axis=0)
    alike = summarise(count, groups=("light", "dark"), classes=CLASSES)
    return drawn | {"metrics": drawn["metrics"] | {"validation": alike}}


def node_document(key: str) -> dict[str, Any]:
    """What a trial would have committed."""
    return {
        "key": key,
        "model": {
            "weights_sha256": key * 2,
            "plan_sha256": key,
            "predictions_sha256": dict.fromkeys(("train", "validation", "test"), key * 2),
            "num_params": 11_000_000,
            "flops": 74_000_000,
            "channels": {"layer4.1.conv2": [512, 461]},
        },
        "execution": {
            "seconds": dict.fromkeys(("load", "score", "surgery", "train", "predict"), 1234.5678),
            "started": 1795397084.2431234,
            "host": "ip-10-0-12-34.eu-central-1.compute.internal",
            "pid": 4194304,
            "device": "NVIDIA H100 80GB HBM3",
            "torch": "2.14.1+cu130",
            "peak_gpu_bytes": 12345678901,
            "wall": 1234.567,
        },
    }


Fails = Callable[[Attempt], dict[str, Any] | None]


class FakeSweep:
    """One sweep folder; ``start`` is one start of the driver."""

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self.folder = folder
        self.store = Store(str(store or folder / "store"))
        self.ledger: Ledger | None = None
        self.now = 0.0
        self.measure: Callable[[str], dict[str, Any]] = measured
        self.order: list[str] = []  # labels in the order they were handed out

    def start(self, spec: SweepSpec, budget: Budget | None = None, **options: Any) -> Schedule:
        """A new schedule from what the folder holds (a former one is dropped, as by a kill)."""
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = Ledger(self.folder).open()
        return Schedule(
            spec, DATA, "cpu", self.ledger, self.store, make_proposer(spec), budget or Budget(),
            measure_stored=lambda key: self.measure(key), clock=lambda: self.now, **options,
        )  # fmt: skip

    def commit(self, key: str) -> None:
        """As a worker does before it reports."""
        self.store.commit(key, {}, {k: v for k, v in node_document(key).items() if k != "key"})

    def finish(self, schedule: Schedule, attempt: Attempt) -> None:
        """As a worker that computed the node and reported it."""
        key = attempt.node.key
        self.commit(key)
        node = node_document(key)
        schedule.succeeded(key, result_of(node, self.measure(key)), node["execution"])

    def drive(
        self,
        schedule: Schedule,
        workers: int = 1,
        *,
        fails: Fails = lambda attempt: None,
        stop_after: int | None = None,
        shuffle: int | None = None,
    ) -> int:
        """Hand out and finish nodes until the end; returns how many were handed out.

        ``shuffle``: seed of the order in which running ones finish; by default the oldest first.
        ``stop_after``: leave the schedule after so many settled nodes, as a kill would.
        """
        rng = random.Random(shuffle)
        at_work: list[Attempt] = []
        num = settled = 0
        while True:
            while len(at_work) < workers:
                step = schedule.next()
                if not isinstance(step, Attempt):
                    break
                num += 1
                self.order.append(step.node.trial.label())
                at_work.append(step)
            if not at_work:
                assert step == FINISHED
                return num
            done = at_work.pop(rng.randrange(len(at_work)) if shuffle is not None else 0)
            error = fails(done)
            if error is None:
                self.finish(schedule, done)
            else:
                schedule.failed(done.node.key, error)
            settled += 1
            if settled == stop_after:
                return num

    def run(self, spec: SweepSpec, budget: Budget | None = None, **options: Any) -> Schedule:
        """``start`` and ``drive`` to the end."""
        schedule = self.start(spec, budget, retry_failed=options.pop("retry_failed", False))
        self.drive(schedule, **options)
        return schedule

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Events of some kinds."""
        assert self.ledger is not None
        return [event for event in self.ledger.events if event["event"] in kinds]
