"""Kill driver, worker, raylet, GCS, tracking, MLflow server or all of them at drawn moments.

    make test-kills                       # 100 kills, an hour and a half on two cores
    make test-kills KILLS=14 KILL_SEED=3

Prints a table: victim, how often it was killed, and in how many of these sweeps everything held.
Exit code 1 if anything did not.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from disturbed import VICTIMS, MlflowServer, Outcome, disturb, what_is_wrong
from sweep_runs import Cli, alive, results, wait_gone, write_space


def try_kills(num_kills: int, seed: int, per_sweep: int, place: Path) -> list[Outcome]:
    """Disturb sweeps until so many victims were killed."""
    rng = np.random.default_rng(seed)
    cli, server = Cli(place / "cache"), MlflowServer(place / "mlflow")
    space = write_space(place / "tiny.yaml")
    outcomes: list[Outcome] = []
    server.start()
    try:
        begun = time.monotonic()
        reference = cli.start(space, place / "reference", "--workers", "2")
        code, _, err = reference.finish()
        assert code == 0, err
        undisturbed = time.monotonic() - begun
        expected = results(place / "reference")
        print(f"undisturbed: {len(expected)} trials in {undisturbed:.0f} s", flush=True)
        queue = [str(name) for name in rng.permutation(list(VICTIMS) * (num_kills // 7 + 1))]
        while (num := sum(count_kills(outcomes).values())) < num_kills:
            victims = [queue.pop() for _ in range(min(per_sweep, num_kills - num, len(queue)))]
            queue = queue or [str(name) for name in rng.permutation(list(VICTIMS))]
            folder = place / f"sweep{len(outcomes)}"
            outcome = disturb(
                cli, space, folder, server, victims, rng, undisturbed, len(expected)
            )
            queue += reversed(outcome.unused)
            outcome.problems += what_is_wrong(folder, expected, server)
            try:
                wait_gone([p for driver in cli.drivers for p in driver.seen.values()], 60)
            except AssertionError as error:
                outcome.problems.append(f"processes left: {error}")
            outcomes.append(outcome)
            print(f"{folder.name}: {outcome.kills} {outcome.problems or 'well'}", flush=True)
            cli.end()
            cli.drivers.clear()
            if not outcome.problems:
                shutil.rmtree(folder)
    finally:
        left = cli.end()
        server.kill()
        assert not alive(left)
    return outcomes


def count_kills(outcomes: list[Outcome]) -> Counter[str]:
    """How often each victim was killed."""
    return Counter(name for o in outcomes for name in o.kills if name != "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-sweep", type=int, default=5)
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="fatefront-kills-"))
    outcomes = try_kills(asked.kills, asked.seed, asked.per_sweep, place)
    killed = count_kills(outcomes)
    well = count_kills([o for o in outcomes if not o.problems])
    print("\n| killed | times | in sweeps that ended as if nothing had happened |")
    print("|---|---:|---:|")
    for name in VICTIMS:
        print(f"| {name} | {killed[name]} | {well[name]} |")
    num_well = sum(not o.problems for o in outcomes)
    print(f"\n{num_well} of {len(outcomes)} sweeps well, {sum(o.num_attempts for o in outcomes)} "
          f"starts of the command")  # fmt: skip
    if num_well == len(outcomes):
        shutil.rmtree(place)
    else:
        print(f"kept: {place}")
    sys.exit(num_well != len(outcomes))


if __name__ == "__main__":
    main()
