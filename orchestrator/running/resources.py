"""What trials run on: how many at once, and how much of a GPU each."""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import dataclass, replace
from typing import Literal

from trainables.errors import UserError
from trainables.trial_spec import Compute

STALLED_AFTER = 30.0
"""Minutes without one batch: longer than anything healthy takes, a first call of cuDNN or the copy
of the images to a slow machine included.
"""
CHECKPOINT_EVERY = 60.0
"""Seconds of training between two checkpoints: longer than a short trial, so that it has none."""
MOST_WORKERS = 1024
"""Trials at once on one machine; each is two processes."""


@dataclass(frozen=True)
class Resources:
    """What the trials run on. ``gpus_per_trial``: 0 = CPU, below 1 = shared, or as many as its
    processes; ``workers``: trials at once; ``cache_gb``: of a remote store's files on each node
    (None: as the node says); ``stalled_after``: minutes without a batch after which a trial is
    ended (0: never); ``checkpoint_every``: seconds of a trial's training between two checkpoints
    (0: none); ``packs``: how many trials share a GPU is measured (till then the other two
    are for one alone), then ``most`` trials at once if it is given.
    """

    workers: int | None = None
    gpus_per_trial: float | None = None
    address: str | None = None
    cache_gb: float | None = None
    stalled_after: float = STALLED_AFTER
    checkpoint_every: float = CHECKPOINT_EVERY
    packs: bool = False
    most: int | None = None

    def resolved(self, compute: Compute) -> Resources:
        """Defaults from this machine; one GPU a trial where there are GPUs.

        Raises:
            UserError: a number of GPUs that Ray cannot place, or that is not there.
        """
        if self.address is not None:
            if self.packs:
                raise UserError(
                    "--gpus-per-trial auto measures on one machine; on a cluster say the share "
                    "that it found on a machine of the same kind (packing.json)"
                )
            from orchestrator.cluster.capacity import cluster_resources

            return cluster_resources(self, compute)
        num_gpus = _num_gpus()
        gpus = self.gpus_per_trial
        if gpus is None:
            gpus = float(compute.world_size) if num_gpus else 0.0
        if self.packs and compute.world_size > 1:
            raise UserError(
                "--gpus-per-trial auto shares a GPU among trials, but compute.world_size is "
                f"{compute.world_size}"
            )
        check_gpus_per_trial(gpus, compute.world_size)
        if gpus > num_gpus:
            raise UserError(f"--gpus-per-trial {gpus:g}: this machine has {num_gpus} GPUs")
        workers = self.workers
        if workers is None:
            cores = len(os.sched_getaffinity(0))
            cpus = compute.threads * compute.world_size
            workers = trials_on_gpus(num_gpus, gpus) if gpus else max(1, cores // cpus)
        if not 1 <= workers <= MOST_WORKERS:
            raise UserError(
                f"--workers must be at least 1 and at most {MOST_WORKERS} but got {workers}"
            )
        packs = self.packs and gpus > 0
        return replace(
            self, workers=workers, gpus_per_trial=gpus, packs=packs, most=self.workers
        )  # fmt: skip

    def trials_cores_allow(self, threads: int) -> int:
        """Trials on one GPU of this machine that there are CPU cores for."""
        return max(1, len(os.sched_getaffinity(0)) // threads // max(1, _num_gpus()))

    def packed(self, trials_per_gpu: int) -> Resources:
        """So many trials on each GPU of this machine; fewer on each where fewer in all are wanted,
        for Ray fills one GPU before it begins the next.
        """
        num_gpus = max(1, _num_gpus())
        workers = min(num_gpus * trials_per_gpu, self.most or num_gpus * trials_per_gpu)
        share = 1 / min(trials_per_gpu, -(-workers // num_gpus))
        return replace(self, workers=workers, gpus_per_trial=share, packs=False)

    @property
    def shares(self) -> bool:
        """Whether several trials may be on one GPU of this machine."""
        below_one = 0 < (self.gpus_per_trial or 0) < 1
        return self.address is None and (self.packs or below_one)

    @property
    def device(self) -> str:
        """Device of the trials."""
        return "cuda" if self.gpus_per_trial else "cpu"


def trials_on_gpus(num_gpus: float, share: float) -> int:
    """Trials that whole GPUs have room for: no trial has parts of two."""
    return int(num_gpus / share + 1e-9) if share >= 1 else int(num_gpus) * int(1 / share + 1e-9)


def parse_gpus(text: str | None) -> float | Literal["auto"] | None:
    """``--gpus-per-trial`` as typed.

    Raises:
        UserError: neither a number nor ``auto``.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        hint = ", did you mean 'auto'?" if difflib.get_close_matches(text, ["auto"]) else ""
        raise UserError(f"--gpus-per-trial must be a number or auto but got {text!r}{hint}")
    return number


def check_gpus_per_trial(gpus: float, world_size: int = 1) -> None:
    """Refuse what Ray cannot place, and processes that would share GPUs.

    Raises:
        UserError: negative, broken above 1, or not one for each process.
    """
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f"--gpus-per-trial must be below 1 or a whole number but got {gpus:g}")
    if gpus and gpus != world_size and max(gpus, world_size) > 1:
        raise UserError(
            f"--gpus-per-trial must be {world_size}, one for each process of a trial "
            f"(compute.world_size), but got {gpus:g}"
        )


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
