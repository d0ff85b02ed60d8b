"""Processes that train together on one GPU for a few seconds, as Ray actors."""

from __future__ import annotations

from typing import Any

import ray

from orchestrator.search.memory_retries import is_out_of_memory
from trainables.errors import last_line
from trainables.training_rate import Measured, TrainingRate
from trainables.trial_spec import Trial


def gpu_name() -> str:
    """The kind of GPU that the cluster has, as Ray names it."""
    prefix = "accelerator_type:"
    names = sorted(n.removeprefix(prefix) for n in ray.cluster_resources() if prefix in n)
    return " and ".join(names) or "GPU"


@ray.remote(max_restarts=0)
class Probe:
    """One process with the sweep's training step."""

    def __init__(self, trial: str, dataset: Any, threads: int, device: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self.problem = ""
        try:
            self.rate = TrainingRate(Trial.model_validate_json(trial), dataset, device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.problem = last_line(str(error), type(error).__name__)
        self.device = device

    def about(self) -> tuple[list[str], int, str]:
        """The GPU it was given, that one's bytes, and what went wrong."""
        import torch

        total = torch.cuda.get_device_properties(0).total_memory if self.device == "cuda" else 0
        return [str(i) for i in ray.get_gpu_ids()], int(total), self.problem

    def train(self, seconds: float) -> Measured:
        """Train for so long."""
        return self.rate.run(seconds)


class Probes:
    """A growing number of them, all on one GPU.

    Args:
        trial: a resolved root.
        reference: the data set in Ray's object store.
        threads: CPUs of each.
        share: of a GPU for each; 0: they train on CPUs.
    """

    def __init__(self, trial: Trial, reference: Any, threads: int, share: float) -> None:
        self._trial = trial.model_dump_json()
        self._reference, self._threads, self._share = reference, threads, share
        self._actors: list[Any] = []
        self._gpu: list[str] | None = None
        self.memory_of_gpu = 0

    def start(self, number: int) -> None:
        """Have so many there, started together; those that do not all fit are ended, and ``train``
        then starts as many as it needs.
        """
        before = len(self._actors)
        try:
            self._grow(number)
        except (MemoryError, ray.exceptions.RayError):
            for actor in self._actors[before:]:
                ray.kill(actor)
            del self._actors[before:]

    def train(self, number: int, seconds: float) -> list[Measured]:
        """Let so many train at once, each for about ``seconds``.

        Raises:
            MemoryError: so many do not fit into the GPU's memory.
            RayError: one of them failed otherwise.
        """
        before = len(self._actors)
        try:
            self._grow(number)
            running = [actor.train.remote(seconds) for actor in self._actors[:number]]
            return list(ray.get(running))
        except ray.exceptions.RayError as error:
            if self.memory_of_gpu and before:
                # fewer of them worked: whatever it was, so many at once are too many here
                raise MemoryError(last_line(str(error), type(error).__name__)) from None
            cause = getattr(error, "cause", None)
            if cause is not None and is_out_of_memory(cause):
                raise MemoryError(last_line(str(cause), type(cause).__name__)) from None
            raise

    def _grow(self, number: int) -> None:
        new = [self._start() for _ in range(number - len(self._actors))]
        self._actors += new
        for gpu, total, problem in ray.get([actor.about.remote() for actor in new]):
            if problem:
                raise MemoryError(problem)
            self._gpu = gpu if self._gpu is None else self._gpu
            self.memory_of_gpu = total
            if gpu != self._gpu:
                raise MemoryError(f"they were placed on GPUs {self._gpu} and {gpu}")

    def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            ray.kill(actor)

    def _start(self) -> Any:
        device = "cuda" if self._share else "cpu"
        made = Probe.options(  # type: ignore[attr-defined]
            num_cpus=self._threads, num_gpus=self._share
        )
        return made.remote(self._trial, self._reference, self._threads, device)
