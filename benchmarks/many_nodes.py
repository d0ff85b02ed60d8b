"""A sweep on more nodes than there are here, by simulation with an injected clock.

    python -m benchmarks.many_nodes 100000 --nodes 64 --gpus 8 --share 1
    python -m benchmarks.many_nodes 20000 --nodes 1 --gpus 4 --share 0.125

The real schedule, ledger, tree and grid; trials take drawn times, which a clock skips. What is
real is the driver's own work, one trial after the other: handing out and recording are timed on
this machine, and ``--tune-ms`` is added for what Ray Tune does with a trial between the two
(``benchmarks/empty_trial.py`` measures it). So it shows where one driver becomes the limit, how
full the GPUs are, and how long the last trials keep a sweep waiting.

``least``: no schedule could end earlier: the sum of all trials over the places there are, or the
longest chain.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from fake_sweep import FakeSweep, fake_spec, node_document

from orchestrator.search.schedule import Attempt, Schedule, result_of
from search_spaces.words import choice

ITERATIONS, SEEDS = 3, (0, 1, 2)
SPREAD = 0.1
"""Of a trial's time, as a share of its mean."""


@dataclass
class Simulation:
    """One driver, ``places`` trials at once; seconds of a clock that starts at 0."""

    schedule: Schedule
    sweep: FakeSweep
    places: int
    root_seconds: float
    step_seconds: float
    tune_seconds: float
    now: float = 0.0
    driver_seconds: float = 0.0
    trial_seconds: float = 0.0
    num_done: int = 0
    running: list[tuple[float, int, Attempt]] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)
    """Node -> seconds of its chain up to it."""
    last_full: float = 0.0
    """When every place was last taken."""

    def __post_init__(self) -> None:
        self.rng = random.Random(0)

    def run(self) -> None:
        """Until the schedule has nothing more."""
        while True:
            while len(self.running) < self.places and self._hand_out():
                pass
            if not self.running:
                return
            if len(self.running) == self.places:
                self.last_full = self.now
            self._take_in()

    def _work(self, began: float) -> None:
        """The driver did something since ``began``, and the clock goes on with it."""
        seconds = time.perf_counter() - began
        self.driver_seconds += seconds
        self.now += seconds

    def _hand_out(self) -> bool:
        began = time.perf_counter()
        attempt = self.schedule.next()
        self._work(began)
        if not isinstance(attempt, Attempt):
            return False
        node = attempt.node
        self.now += self.tune_seconds
        self.driver_seconds += self.tune_seconds
        mean = self.step_seconds if node.trial.n else self.root_seconds
        seconds = mean * self.rng.uniform(1 - SPREAD, 1 + SPREAD)
        self.trial_seconds += seconds
        before = max((self.longest[parent] for parent in node.parents), default=0.0)
        self.longest[node.key] = before + seconds
        heapq.heappush(self.running, (self.now + seconds, self.num_done, attempt))
        self.num_done += 1
        return True

    def _take_in(self) -> None:
        end, _, attempt = heapq.heappop(self.running)
        self.now = max(self.now, end)
        key = attempt.node.key
        node = node_document(key)
        result = result_of(node, self.sweep.measure(key))
        began = time.perf_counter()
        self.schedule.succeeded(key, result, node["execution"])
        self._work(began)

    def least(self) -> float:
        """Seconds under which no order of the same trials ends."""
        return max(self.trial_seconds / self.places, max(self.longest.values()))


def simulated(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run it; returns what is printed."""
    places = round(options.nodes * options.gpus / options.share)
    # 3 seeds x (snnl, random) x 3 iterations a ratio
    number = max(1, options.trials // (len(SEEDS) * 2 * ITERATIONS))
    ratios = [round(0.9 * (k + 1) / (number + 1), 7) for k in range(number)]
    spec = fake_spec(
        "grid", prune={"criterion": "snnl", "ratio": choice(*ratios), "site": "conv"},
        iterations=ITERATIONS, seeds=SEEDS, controls=("random",),
    )  # fmt: skip
    os.fsync = lambda _: None  # type: ignore[assignment]
    sweep = FakeSweep(folder)
    began = time.perf_counter()
    schedule = sweep.start(spec)
    simulation = Simulation(
        schedule, sweep, places, options.root_seconds, options.step_seconds,
        options.tune_ms / 1000,
    )  # fmt: skip
    simulation._work(began)
    simulation.run()
    if sweep.ledger is not None:
        sweep.ledger.close()
    return {
        "trials": simulation.num_done,
        "places": places,
        "hours": simulation.now / 3600,
        "least": simulation.least() / 3600,
        "full": simulation.trial_seconds / (places * simulation.now),
        "tail": (simulation.now - simulation.last_full) / simulation.now,
        "driver_ms": 1000 * simulation.driver_seconds / simulation.num_done,
        "driver": simulation.driver_seconds / simulation.now,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trials", type=int)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--gpus", type=int, default=8, help="of a node")
    parser.add_argument("--share", type=float, default=1.0, help="of a GPU for a trial")
    parser.add_argument("--root-seconds", type=float, default=240.0, help="of a baseline")
    parser.add_argument("--step-seconds", type=float, default=60.0, help="of a pruned trial")
    parser.add_argument("--tune-ms", type=float, default=20.0, help="of Ray Tune, for a trial")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-nodes-") as folder:
        found = simulated(options, Path(folder))
    print(
        "| trials | at once | hours | least | GPUs taken | after the last was free "
        "| driver, ms a trial | driver busy | GB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {found['trials']:,} | {found['places']:,} | {found['hours']:.2f} "
        f"| {found['least']:.2f} | {found['full']:.0%} | {found['tail']:.0%} "
        f"| {found['driver_ms']:.1f} | {found['driver']:.0%} | {found['memory']:.2f} |"
    )


if __name__ == "__main__":
    main()
