"""A whole sweep by fatefront against the same points as independent trials of Ray Tune.

The space is that of ``headline`` below: HAM10000, ResNet-18, 128 px, 40 + 10 epochs, 2 baselines x
2 criteria x 3 ratios x 3 iterations x 2 seeds = 72 pruned points. Prints one table:

    python -m benchmarks.whole_sweep --root PATH --sample 12

* ``fatefront``: ``fatefront run``, all 72 points and their 4 roots, no control arms (the usual way
  has none), ``--gpus-per-trial auto``.
* ``independent trials``: ``tune.Tuner`` with ``OptunaSearch``; each trial trains its root, then
  scores, prunes and fine-tunes n times (``benchmarks/usual_way``). ``--sample`` points that the
  seeded sampler asks for are run, as many at once on a GPU as ``--share`` says, with all CPU cores
  in their loaders; their GPU-seconds are scaled to the 72 by epochs of training. The baseline of a
  point is the net it was pruned from, so no trial is spent on baselines.

GPU-seconds of fatefront are wall time x GPUs of the whole command, every start of a process in it;
those of the independent trials are the sum of the trials' own seconds by the number at once, as if
no place on a GPU were ever free and nothing had to be started. With ``--keep FOLDER`` what
was measured is kept there, and ``--only fatefront`` or ``--only independent`` measures one side.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from search_spaces.ham10000 import ham10000
from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import choice

RATIOS, ITERATIONS, SEEDS = (0.02, 0.05, 0.10), 3, (0, 1)
BASELINES, CRITERIA = ("vanilla", "hsic"), ("snnl", "magnitude")

POINT = ("baseline", "criterion", "ratio", "n", "seed")


def headline() -> SweepSpec:
    """The space of the comparison."""
    return ham10000().model_copy(
        update={
            "name": "headline",
            "baseline": choice(*BASELINES),
            "prune": {"criterion": choice(*CRITERIA), "ratio": choice(*RATIOS)},
            "iterations": ITERATIONS,
            "seeds": SEEDS,
            "controls": (),
        }
    )


def scaled(options: argparse.Namespace) -> list[str]:
    """Overrides of the space that make it the size that was asked for."""
    return [
        f"data.root={options.root}",
        f"training.epochs={options.epochs}",
        f"finetune.epochs={options.finetune_epochs}",
        *options.set,
    ]


def said(options: argparse.Namespace) -> list[str]:
    """What both sides must agree on."""
    return [str(override) for override in scaled(options)]


def name_of(value: Any) -> Any:
    """Of a spec that is recorded in full, its name; anything else as it is."""
    return value.get("name", value) if isinstance(value, dict) else value


def run_fatefront(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Wall seconds of the command and the points it measured."""
    command = [
        sys.executable, "-m", "orchestrator", "run", f"{__file__}:headline", "--out", str(folder),
        "--tracking-uri", "none", "--gpus-per-trial", options.gpus_per_trial,
    ]  # fmt: skip
    for override in scaled(options):
        command += ["--set", override]
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=sys.stderr)
    seconds = time.monotonic() - begun
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    points = {}
    for record in records:
        trial = record["trial"]
        if record["status"] == "done" and trial["role"] == "treatment":
            where = " ".join(str(name_of(trial[name])) for name in POINT)
            found = record["result"]["metrics"]["validation"]
            points[where] = {k: found[k] for k in ("f1", "eodd_hardt")}
    return {"seconds": seconds, "points": points, "options": said(options)}


def train_point(config: dict[str, Any], context: dict[str, Any]) -> None:
    """The trainable of the usual way."""
    import ray
    from ray import tune

    from benchmarks.usual_way.point import run_point
    from orchestrator.spaces import load_space

    dataset = ray.get(context["dataset"])
    spec = load_space(f"{context['file']}:headline", context["overrides"])
    arm = {"criterion": config["criterion"], "ratio": config["ratio"]}
    trial = spec.trial(config["baseline"], arm, config["n"], config["seed"])
    found = run_point(
        trial.resolved(context["device"]), dataset, Path(context["jpeg_root"]),
        context["device"], context["loader_workers"],
    )  # fmt: skip
    tune.report(found)


class _KeepFinished:
    """Writes each finished trial down at once, one JSON document a line.

    Only what ran to its end counts: a trial that was cut off has seconds, but no result.
    """

    def __init__(self, path: Path, shared: dict[str, Any], options: argparse.Namespace) -> None:
        self.path, self.shared, self.options = path, shared, options

    def finished(self, config: dict[str, Any], metrics: dict[str, Any]) -> None:
        line = self.shared | {
            "point": " ".join(str(config[name]) for name in POINT),
            "metrics": {k: metrics[k] for k in ("f1", "eodd_hardt")},
            "seconds": metrics["time_total_s"],
            "epochs": self.options.epochs + config["n"] * self.options.finetune_epochs,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def run_independent(options: argparse.Namespace, scratch: str, kept: Path) -> None:
    """Run the sampled points; each that ends is a line of ``kept``. ``scratch``: Tune's folder."""
    import optuna
    import ray
    import torch
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from orchestrator.spaces import load_space
    from trainables.data.load import load_dataset

    file = os.path.abspath(__file__)
    spec = load_space(f"{file}:headline", scaled(options))
    dataset = load_dataset(spec.data)
    num_gpus = torch.cuda.device_count()
    share = options.share if num_gpus else 0
    cores = len(os.sched_getaffinity(0))
    at_once = max(1, math.floor(num_gpus / share + 1e-9)) if num_gpus else max(1, cores // 2)
    cpus = max(1, cores // at_once)
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    context = {
        "dataset": ray.put(dataset), "file": file, "overrides": scaled(options),
        "jpeg_root": str(options.root), "device": "cuda" if num_gpus else "cpu",
        "loader_workers": cpus if num_gpus else 0,
    }  # fmt: skip
    keeper = _KeepFinished(kept, {"at_once": at_once, "options": said(options)}, options)

    class Keep(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):  # type: ignore[no-untyped-def]
            if "f1" in result:  # the only report of a trial, its last act
                keeper.finished(trial.config, result)

    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train_point, context=context), {"cpu": cpus, "gpu": share}
        ),
        param_space={
            "baseline": tune.choice(BASELINES),
            "criterion": tune.choice(CRITERIA),
            "ratio": tune.choice(RATIOS),
            "n": tune.choice(range(1, ITERATIONS + 1)),
            "seed": tune.choice(SEEDS),
        },
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                metric=["eodd_hardt", "f1"], mode=["min", "max"],
                sampler=optuna.samplers.TPESampler(seed=options.seed),
            ),
            num_samples=options.sample,
            max_concurrent_trials=at_once,
        ),
        run_config=tune.RunConfig(
            name="independent", storage_path=scratch, verbose=0, callbacks=[Keep()]
        ),
    )  # fmt: skip
    results = tuner.fit()
    ray.shutdown()
    if results.errors:
        raise SystemExit(f"an independent trial failed: {results.errors[0]}")


def read_independent(kept: Path) -> dict[str, Any]:
    """What the finished independent trials measured, together.

    Raises:
        SystemExit: trials of different spaces or numbers at once in one file.
    """
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    points: dict[str, list[dict[str, float]]] = {}
    for line in lines:
        points.setdefault(line["point"], []).append(line["metrics"])
        if any(line[name] != lines[0][name] for name in ("options", "at_once")):
            raise SystemExit(f"{kept}: trials of more than one run; begin with an empty folder")
    at_once = lines[0]["at_once"]
    # as if every place on the GPUs had been taken all the time, and nothing had to be started
    return {
        "seconds": sum(line["seconds"] for line in lines) / at_once, "points": points,
        "epochs": sum(line["epochs"] for line in lines), "at_once": at_once,
        "finished": len(lines), "options": lines[0]["options"],
    }  # fmt: skip


def all_epochs(options: argparse.Namespace) -> int:
    """Epochs of training of all points as trials of their own."""
    chains = len(BASELINES) * len(CRITERIA) * len(RATIOS) * len(SEEDS)
    depths = range(1, ITERATIONS + 1)
    return chains * sum(options.epochs + n * options.finetune_epochs for n in depths)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="HAM10000's images and metadata")
    parser.add_argument("--sample", type=int, default=12, help="independent trials that are run")
    parser.add_argument("--share", type=float, default=0.25, help="of a GPU for each of them")
    parser.add_argument("--gpus-per-trial", default="auto", help="of fatefront's trials")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--finetune-epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the sampler of the points")
    parser.add_argument("--set", action="append", default=[], help="override of the space")
    parser.add_argument("--keep", type=Path, help="folder for what was measured")
    parser.add_argument("--only", choices=("fatefront", "independent", "table"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fatefront-") as folder:
        kept = options.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        ours, theirs = kept / "fatefront.json", kept / "independent.jsonl"
        if options.only in (None, "fatefront"):
            ours.write_text(json.dumps(run_fatefront(options, Path(folder) / "sweep")))
        if options.only in (None, "independent"):
            theirs.unlink(missing_ok=True)
            run_independent(options, folder, theirs)
        if ours.exists() and theirs.exists():
            print_table(options, json.loads(ours.read_text()), read_independent(theirs))


def print_table(
    options: argparse.Namespace, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """Both sides and their ratio."""
    import torch

    if ours["options"] != theirs["options"]:
        raise SystemExit(f"not of one space: {ours['options']}, {theirs['options']}")
    gpus = max(1, torch.cuda.device_count())
    what = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    scale = all_epochs(options) / theirs["epochs"]
    ours_gpu, theirs_gpu = ours["seconds"] * gpus, theirs["seconds"] * gpus * scale
    differences = [
        {k: ours["points"][where][k] - one[k] for k in one}
        for where, found in theirs["points"].items()
        if where in ours["points"]
        for one in found
    ]
    print(f"{gpus} x {what}, {len(ours['points'])} points, {options.epochs} + "
          f"{options.finetune_epochs} epochs")  # fmt: skip
    print("| | GPU-seconds | |")
    print("|---|---|---|")
    print(f"| fatefront | {ours_gpu:.0f} | measured |")
    how = f"{theirs['finished']} points measured in {theirs['seconds'] * gpus:.0f}"
    how += f", {theirs['at_once']} at once, x {scale:.2f}"
    print(f"| independent trials | {theirs_gpu:.0f} | {how} |")
    print(f"| ratio | {theirs_gpu / ours_gpu:.1f} | |")
    for name in ("f1", "eodd_hardt"):
        found = [one[name] for one in differences]
        spread = statistics.stdev(found) if len(found) > 1 else float("nan")
        mean = statistics.fmean(found)
        print(f"{name}, fatefront less independent: mean {mean:+.4f}, deviation {spread:.4f}")


if __name__ == "__main__":
    main()
