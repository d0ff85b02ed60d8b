"""What trials run on: how many at once, and how much of a GPU each."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Literal

from trainables.errors import UserError


@dataclass(frozen=True)
class Resources:
    """What the trials run on. ``gpus_per_trial``: 0 = CPU, below 1 = shared, or 1; ``workers``:
    trials at once; ``cache_gb``: of a remote store's files on each node (None: as the node says);
    ``packs``: how many trials share a GPU is measured (till then the other two are for one alone),
    then ``most`` trials at once if it is given.
    """

    workers: int | None = None
    gpus_per_trial: float | None = None
    address: str | None = None
    cache_gb: float | None = None
    packs: bool = False
    most: int | None = None

    def resolved(self, threads: int) -> Resources:
        """Defaults from this machine; one GPU a trial where there are GPUs.

        Raises:
            UserError: a number of GPUs that Ray cannot place, or that is not there.
        """
        if self.address is not None:
            from orchestrator.cluster.capacity import cluster_resources

            return cluster_resources(self, threads)
        num_gpus = _num_gpus()
        gpus = self.gpus_per_trial
        if gpus is None:
            gpus = 1.0 if num_gpus else 0.0
        check_gpus_per_trial(gpus)
        if gpus > num_gpus:
            raise UserError(f"--gpus-per-trial {gpus:g}: this machine has {num_gpus} GPUs")
        workers = self.workers
        if workers is None:
            cores = len(os.sched_getaffinity(0))
            workers = int(num_gpus / gpus + 1e-9) if gpus else max(1, cores // threads)
        if workers < 1:
            raise UserError(f"--workers must be at least 1 but got {workers}")
        packs = self.packs and gpus > 0
        return replace(
            self, workers=workers, gpus_per_trial=gpus, packs=packs, most=self.workers
        )  # fmt: skip

    def trials_cores_allow(self, threads: int) -> int:
        """Trials on one GPU that there are CPU cores for."""
        if self.address is None:
            return max(1, len(os.sched_getaffinity(0)) // threads // max(1, _num_gpus()))
        import ray

        found = ray.cluster_resources()
        return max(1, int(found.get("CPU", 0) / threads / max(1, found.get("GPU", 1))))

    def packed(self, trials_per_gpu: int) -> Resources:
        """So many trials on each GPU of the connected cluster, and no more than was said."""
        import ray

        workers = int(ray.cluster_resources().get("GPU", 1)) * trials_per_gpu
        return replace(
            self, workers=min(workers, self.most or workers), gpus_per_trial=1 / trials_per_gpu,
            packs=False,
        )  # fmt: skip

    @property
    def shares(self) -> bool:
        """Whether several trials may be on one GPU of this machine."""
        below_one = 0 < (self.gpus_per_trial or 0) < 1
        return self.address is None and (self.packs or below_one)

    @property
    def device(self) -> str:
        """Device of the trials."""
        return "cuda" if self.gpus_per_trial else "cpu"


def parse_gpus(text: str | None) -> float | Literal["auto"] | None:
    """``--gpus-per-trial`` as typed.

    Raises:
        UserError: neither a number nor ``auto``.
    """
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--gpus-per-trial must be a number or auto but got {text!r}")
    return number


def check_gpus_per_trial(gpus: float) -> None:
    """Refuse what Ray cannot place.

    Raises:
        UserError: negative, broken above 1, or several GPUs.
    """
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f"--gpus-per-trial must be below 1 or a whole number but got {gpus:g}")
    if gpus > 1:
        raise UserError(
            f"--gpus-per-trial {gpus:g}: one trial on several GPUs is not available yet; "
            "use at most 1"
        )


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
