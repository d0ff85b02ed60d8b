"""A trial of several processes without Ray: starts them on this machine and waits."""

from __future__ import annotations

import queue
import traceback
from typing import Any

import torch
from torch import multiprocessing

from trainables.data.base import DataConfig
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.pruning.base import ScoringError
from trainables.replicas import free_address, join, leave
from trainables.store import Store, StoreError
from trainables.training import TrainingError
from trainables.trial import run_trial
from trainables.trial_spec import Trial

LOOK_SECONDS = 1.0
TOLD = (TrainingError, ScoringError, StoreError, UserError)
"""Errors that come back as what they are."""


def run_together(trial: Trial, data: DataConfig, store: str, device: str) -> dict[str, Any]:
    """``run_trial`` in as many processes as the trial says, on as many GPUs of this machine.

    Raises:
        UserError: there are not so many GPUs.
        RuntimeError: a process ended without a word.
        and as ``run_trial``.
    """
    size = trial.compute.world_size
    if device == "cuda" and torch.cuda.device_count() < size:
        raise UserError(
            f"compute.world_size must be at most {torch.cuda.device_count()}, the GPUs of this "
            f"machine, but got {size}"
        )
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    address = free_address()
    processes = [
        context.Process(
            target=_one, args=(rank, address, trial, data, store, device, answers), daemon=True
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        return _first_answer(processes, answers)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _first_answer(processes: list[Any], answers: Any) -> dict[str, Any]:
    while True:
        try:
            answer = answers.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            for rank, process in enumerate(processes):
                if process.exitcode not in (None, 0):
                    raise RuntimeError(
                        f"process {rank} of {len(processes)} ended with {process.exitcode}"
                    ) from None
            continue
        if isinstance(answer, BaseException):
            raise answer
        return dict(answer)


def _one(
    rank: int, address: str, trial: Trial, data: DataConfig, store: str, device: str, answers: Any
) -> None:
    size = trial.compute.world_size
    where = f"{device}:{rank}" if device == "cuda" else device
    try:
        if device == "cuda":
            torch.cuda.set_device(rank)
        replicas = join(rank, size, address, device)
        try:
            dataset = load_dataset(data)
            document = run_trial(trial, dataset, Store(store), device=where, replicas=replicas)
        finally:
            leave()
    except TOLD as error:
        answers.put(type(error)(str(error)))
    except Exception:
        answers.put(RuntimeError(f"process {rank} of {size}:\n{traceback.format_exc()}"))
    else:
        if rank == 0:
            answers.put(document)
