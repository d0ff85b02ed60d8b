"""How the orchestrator's own work grows with the number of recorded trials.

    python -m benchmarks.many_trials 10000
    python -m benchmarks.many_trials 6000 --sampler tpe

The real schedule, ledger, tree, sampler and metrics; trials take no time (``fake_sweep`` of the
tests draws their counts), and nothing is forced to the disk. Prints what handing out and recording
a trial took, per thousand trials, then, of a process of its own, the seconds of a start on the
finished folder. Memory is the most that the process had, of which PyTorch is half a GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from fake_sweep import FakeSweep, fake_spec

from orchestrator.search.schedule import Attempt, Budget
from search_spaces.words import choice

STEP = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trials", type=int)
    parser.add_argument("--sampler", default="grid", choices=("grid", "tpe", "nsga2", "random"))
    parser.add_argument("--resume", type=Path, help="only a start on such a folder")
    options = parser.parse_args()
    # 3 seeds x (snnl, random) x 3 iterations a ratio
    number = options.trials // 18 + 1
    ratios = [round(0.9 * (k + 1) / (number + 1), 6) for k in range(number)]
    spec = fake_spec(
        options.sampler, prune={"criterion": "snnl", "ratio": choice(*ratios), "site": "conv"},
        iterations=3, seeds=(0, 1, 2), controls=("random",),
    )  # fmt: skip
    budget = None if options.sampler == "grid" else Budget(trials=options.trials)
    os.fsync = lambda _: None  # type: ignore[assignment]
    if options.resume:
        begun = time.perf_counter()
        FakeSweep(options.resume).start(spec, budget)
        print(f"resume: {time.perf_counter() - begun:.1f} s, {most_memory():.2f} GB")
        return
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        sweep = FakeSweep(Path(folder))
        sweep.commit = lambda key: None  # type: ignore[method-assign]
        schedule = sweep.start(spec, budget)
        print("| recorded trials | ms a trial | slowest suggestion, ms |")
        print("|---|---|---|")
        done, begun, slowest = 0, time.perf_counter(), 0.0
        while True:
            asked = time.perf_counter()
            attempt = schedule.next()
            slowest = max(slowest, time.perf_counter() - asked)
            if not isinstance(attempt, Attempt):
                break
            sweep.finish(schedule, attempt)
            done += 1
            if done % STEP == 0:
                each = (time.perf_counter() - begun) / STEP
                print(f"| {done:,} | {each * 1000:.1f} | {slowest * 1000:.0f} |", flush=True)
                begun, slowest = time.perf_counter(), 0.0
        if sweep.ledger is not None:
            sweep.ledger.close()
        print(f"\n{done:,} trials: {most_memory():.2f} GB", flush=True)
        command = [sys.executable, "-m", "benchmarks.many_trials", *sys.argv[1:]]
        subprocess.run([*command, "--resume", folder], check=True)


def most_memory() -> float:
    """Resident memory of this process at its peak, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
