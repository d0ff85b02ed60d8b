"""What several GPUs of one machine are worth: a packed sweep, and one large trial.

    python -m benchmarks.several_gpus --root PATH --gpus 2

Prints two tables, each with the ratio to one GPU of the same machine:

* ``sweep``: epochs of training a second in the middle of a sweep of small trials
  (``benchmarks/whole_sweep.py``'s space with more seeds, ``--gpus-per-trial auto``), from
  ``--settle`` seconds after the first trial began until no more are begun. The beginning and the
  end of a sweep are not in it: they cost the same on any number of GPUs.
* ``trial``: images a second of one large trial with a process on each GPU; the scores that one
  process and several give to the channels of the same model; and the metrics of ``--seeds`` roots
  trained by one and by several, paired by seed, beside what another seed changes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import multiprocessing

from benchmarks.whole_sweep import __file__ as SPACE_FILE
from orchestrator.ledger.records import load_records
from orchestrator.spaces import load_space
from search_spaces.ham10000 import ham10000
from trainables.data.base import DataConfig
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.measurement import measure_node
from trainables.node import load_model, make_baseline, to_device
from trainables.replicas import Replicas, free_address, join, leave
from trainables.scoring import score_criteria
from trainables.store import Store
from trainables.together import run_together
from trainables.training import Trainer
from trainables.training_rate import TrainingRate
from trainables.trial import identity, prepare_device
from trainables.trial_spec import Prune, Trial, node_key

WARM_UP, STEPS = 10, 30
CRITERIA = ("snnl", "hsic", "taylor", "skewness", "fairprune")
METRICS = ("f1", "eodd_hardt")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="HAM10000's images and metadata")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--only", choices=("sweep", "trial"))
    parser.add_argument("--seconds", type=float, default=80, help="of each sweep")
    parser.add_argument("--settle", type=float, default=15)
    parser.add_argument("--set", action="append", default=[], help="override of the sweep's space")
    parser.add_argument("--gpus-per-trial", default="auto", help="of the sweep")
    parser.add_argument("--backbone", default="resnet18", help="of the large trial")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cuda", help="cpu: to try the script")
    options = parser.parse_args()
    if options.device == "cuda" and torch.cuda.device_count() < options.gpus:
        raise SystemExit(f"{torch.cuda.device_count()} GPUs here")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{options.gpus} x {name}", flush=True)
    if options.only != "trial":
        compare_sweeps(options)
    if options.only != "sweep":
        compare_trials(options)


def compare_sweeps(options: argparse.Namespace) -> None:
    """The first table."""
    rates = {number: sweep_rate(options, number) for number in (1, options.gpus)}
    print("| packed sweep on | epochs a second | of one GPU |")
    print("|---|---|---|")
    for number, rate in rates.items():
        print(f"| {number} | {rate:.2f} | {rate / rates[1]:.2f} |", flush=True)


def sweep_rate(options: argparse.Namespace, number: int) -> float:
    """Epochs a second of a sweep on ``number`` GPUs."""
    with tempfile.TemporaryDirectory(prefix="fatefront-") as scratch:
        folder = Path(scratch) / "sweep"
        command = [
            sys.executable, "-m", "orchestrator", "run", f"{SPACE_FILE}:headline",
            "--out", str(folder), "--tracking-uri", "none", "--gpus-per-trial",
            options.gpus_per_trial, "--hours", str(options.seconds / 3600),
        ]  # fmt: skip
        overrides = [f"data.root={options.root}", f"seeds={list(range(8))}", *options.set]
        for override in overrides:
            command += ["--set", override]
        spec = load_space(f"{SPACE_FILE}:headline", overrides)
        visible = ",".join(map(str, range(number)))
        begun = time.time()
        subprocess.run(
            command, check=True, stdout=sys.stderr,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": visible},
        )  # fmt: skip
        spans = []
        for record in load_records(folder).values():
            if record["status"] == "done":
                how = record["execution"]
                end = how["started"] + sum(how["seconds"].values())
                recipe = spec.finetune if record["trial"]["n"] else spec.training
                spans.append((how["started"], end, recipe.epochs))
    if not spans:
        raise SystemExit("no trial finished: give more --seconds")
    start, end = min(span[0] for span in spans) + options.settle, begun + options.seconds
    if end <= start:
        raise SystemExit("nothing is left between --settle and --seconds")
    epochs = sum(
        number_of * max(0.0, min(end, to) - max(start, since)) / (to - since)
        for since, to, number_of in spans
    )
    return epochs / (end - start)


def compare_trials(options: argparse.Namespace) -> None:
    """The second table."""
    data = ham10000().data.model_copy(
        update={"root": str(options.root), "image_size": options.image_size}
    )
    load_dataset(data)  # decodes once
    rates = {size: together(size, options, _rate, data)[0] for size in (1, options.gpus)}
    print(f"{options.backbone}, {options.image_size} px, batch {options.batch_size}")
    print("| one trial on | images a second | of one GPU |")
    print("|---|---|---|")
    for size, rate in rates.items():
        print(f"| {size} | {rate:,.0f} | {rate / rates[1]:.2f} |", flush=True)
    with tempfile.TemporaryDirectory(prefix="fatefront-") as store:
        compare_scores(options, data, store)
        compare_metrics(options, data, store)


def compare_scores(options: argparse.Namespace, data: DataConfig, store: str) -> None:
    """Largest difference of a channel's score, of the largest score of its criterion."""
    run_together(large(options, 1, 0), data, store, options.device)
    one, several = (together(size, options, _scores, data, store)[0] for size in (1, options.gpus))
    print("| scores of one model | largest difference, of the largest score |")
    print("|---|---|")
    for name, expected in one.items():
        difference = np.abs(several[name] - expected).max() / np.abs(expected).max()
        print(f"| {name} | {float(difference):.1e} |", flush=True)


def compare_metrics(options: argparse.Namespace, data: DataConfig, store: str) -> None:
    """Validation metrics of roots by one and by several processes."""
    found: dict[int, list[dict[str, float]]] = {1: [], options.gpus: []}
    for seed in range(options.seeds):
        for size, metrics in found.items():
            node = run_together(large(options, size, seed), data, store, options.device)
            measured = measure_node(Store(store), node["key"], load_dataset(data), "corrected")
            validation = measured["metrics"]["validation"]
            metrics.append({name: validation[name] for name in METRICS})
    print("| metric | mean by one | by several | differences by seed | deviation over seeds |")
    print("|---|---|---|---|---|")
    for name in METRICS:
        one, several = ([each[name] for each in found[size]] for size in found)
        differences = " ".join(f"{b - a:+.3f}" for a, b in zip(one, several, strict=True))
        spread = statistics.stdev(one) if len(one) > 1 else float("nan")
        means = f"{statistics.fmean(one):.3f} | {statistics.fmean(several):.3f}"
        print(f"| {name} | {means} | {differences} | {spread:.3f} |", flush=True)


def large(options: argparse.Namespace, size: int, seed: int) -> Trial:
    """The root of a large trial of ``size`` processes."""
    recipe = ham10000().training.model_copy(
        update={"epochs": options.epochs, "batch_size": options.batch_size}
    )
    return Trial(
        backbone={"name": options.backbone},
        baseline={"name": "vanilla", "training": recipe},
        compute={"world_size": size},
        seed=seed,
    ).resolved(options.device)


def pruned(options: argparse.Namespace, criterion: str) -> Prune:
    """The step that prunes the last convolution of a large trial."""
    arm = {"criterion": {"name": criterion}, "ratio": 0.02}
    trial = large(options, 1, 0).model_copy(update={"prune": Prune.model_validate(arm), "n": 1})
    resolved = Trial.model_validate(trial.model_dump()).resolved(options.device).prune
    assert resolved is not None
    return resolved


Work = Callable[..., Any]


def together(size: int, options: argparse.Namespace, work: Work, *arguments: Any) -> list[Any]:
    """What ``work(replicas, device, options, *arguments)`` returns in each process."""
    context = multiprocessing.get_context("spawn")
    answers, address = context.Queue(), free_address()
    processes = [
        context.Process(target=_one, args=(rank, size, address, options, work, arguments, answers))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    return [found[rank] for rank in range(size)]


def _one(
    rank: int, size: int, address: str, options: argparse.Namespace, work: Work,
    arguments: tuple[Any, ...], answers: Any,
) -> None:  # fmt: skip
    device = options.device
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
        device = f"cuda:{rank}"
    replicas = join(rank, size, address, device)
    answers.put((rank, work(replicas, device, options, *arguments)))
    leave()


def _rate(replicas: Replicas, device: str, options: argparse.Namespace, data: DataConfig) -> float:
    rate = TrainingRate(
        large(options, replicas.size, 0), load_dataset(data), device,
        lambda data, t: Trainer(data, t.compute, t.seed, 0, replicas=replicas),
    )  # fmt: skip
    with replicas.averaging(rate.optimizer):
        rate.run_steps(WARM_UP)
        replicas.each(None)
        begun = time.perf_counter()
        rate.run_steps(STEPS)
        seconds = time.perf_counter() - begun
    return STEPS * options.batch_size / max(replicas.each(seconds))


def _scores(
    replicas: Replicas, device: str, options: argparse.Namespace, data: DataConfig, store: str
) -> dict[str, np.ndarray]:
    dataset, root = load_dataset(data), large(options, 1, 0)
    place = torch.device(device)
    prepare_device(place, root)
    trainer = Trainer(DeviceData(dataset, place), root.compute, 0, 1, replicas=replicas)
    made = make_baseline(root, dataset)
    model, _ = load_model(Store(store), node_key(root, identity(dataset)), root, made)
    prunes = [pruned(options, name) for name in CRITERIA]
    found = score_criteria(to_device(model, place), prunes, trainer, made, better_served=lambda: 0)
    return {
        name: np.concatenate([each.numpy() for each in scores.values()])
        for name, scores in zip(CRITERIA, found, strict=True)
    }


if __name__ == "__main__":
    main()
