"""What fatefront and Ray Tune add to a trial: seconds in which a worker computes none.

    python -m benchmarks.empty_trial [--trials 200] [--workers 1]

A real sweep on this machine of the shortest trials there are (64 images of 32 px, one epoch).
``between trials`` is what passes from the moment a worker has its answer to the moment it begins
with the next trial: the report to Tune, the ledger, the next choice, its way to the worker; with
one worker the time between the first and the last end of a trial, less what the worker was busy.
``around its own work`` is what passes from the end of one trial's own work (its
``execution.seconds``) to the beginning of the next one's: the same, and the figures, the latency
and the commit of the model (45 MB). A process's first trial is in neither.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import yaml

from orchestrator.ledger.records import load_records, read_events

RECIPE = {"epochs": 1, "batch_size": 64, "schedule": "constant"}


def space(number: int) -> dict[str, object]:
    """A root and ``number`` arms, one iteration."""
    ratios = [round(0.9 * (k + 1) / (number + 1), 5) for k in range(number)]
    return {
        "name": "empty",
        "data": {
            "name": "synthetic",
            "num_images": 64,
            "image_size": 32,
            "classes": ["nv", "mel"],
        },
        "backbone": "resnet18",
        "training": RECIPE,
        "finetune": RECIPE,
        "prune": {"criterion": "random", "ratio": {"choice": ratios}, "site": "conv"},
        "iterations": 1,
        "seeds": [0],
        "controls": [],
        "search": {"sampler": "grid"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="empty-") as scratch:
        path, folder = Path(scratch) / "space.yaml", Path(scratch) / "sweep"
        path.write_text(yaml.safe_dump(space(options.trials - 1)))
        command = [
            sys.executable, "-m", "orchestrator", "run", str(path), "--out", str(folder),
            "--tracking-uri", "none", "--workers", str(options.workers),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr)
        records = [r for r in load_records(folder).values() if r["status"] == "done"]
        ends = [e["time"] for e in read_events(folder) if e["event"] == "done"]
        of_process: dict[int, list[tuple[float, float]]] = {}
        for record in records:
            how = record["execution"]
            end = how["started"] + sum(how["seconds"].values())
            of_process.setdefault(how["pid"], []).append((how["started"], end))
    gaps, own = [], []
    for spans in of_process.values():
        spans.sort()
        own += [end - start for start, end in spans]
        gaps += [(then, then - end) for (_, end), (then, _) in pairwise(spans)]
    gaps.sort()
    half = len(gaps) // 2
    print(f"{options.trials} trials, {options.workers} at once; own work of one: "
          f"{statistics.median(own):.3f} s")  # fmt: skip
    print("| overhead of a trial, s | median | mean | 95 % |")
    print("|---|---|---|---|")
    if options.workers == 1:
        busy = sum(r["execution"]["wall"] for r in records) - records[0]["execution"]["wall"]
        mean = (max(ends) - min(ends) - busy) / (len(records) - 1)
        print(f"| between trials | | {mean:.3f} | |")
    for name, part in (("first half", gaps[:half]), ("second half", gaps[half:])):
        found = sorted(seconds for _, seconds in part)
        high = found[int(0.95 * (len(found) - 1))]
        print(f"| around its own work, {name} | {statistics.median(found):.3f} "
              f"| {statistics.fmean(found):.3f} | {high:.3f} |")  # fmt: skip


if __name__ == "__main__":
    main()
