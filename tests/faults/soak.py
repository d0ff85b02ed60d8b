"""Many short trials in reused workers, first undisturbed, then under faults all along.

    make test-soak                        # 2,000 trials each way; hours on two cores
    make test-soak SOAK_TRIALS=500

The undisturbed sweep has one worker, which is reused for all trials; its memory is read after
each. In the other a tenth of all commits fail as on a broken disk, and a worker is killed every
`--kill-every` seconds. Prints both, and exits with 1 unless the results are equal.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from broken_commit import with_fault
from disturbed import orphan_files
from sweep_runs import Cli, Driver, alive, assert_each_node_once, results, wait_gone, write_space

BREAKS = '''
import random


def before_commit(*args):
    if random.SystemRandom().random() < 0.1:
        raise OSError(5, "Input/output error", "injected")
'''


def wait(driver: Driver, kill_every: float, rng: np.random.Generator) -> tuple[list[int], int]:
    """Until the command ends: the worker's bytes after each trial, and how many were killed."""
    memory: list[int] = []
    num_killed, num_done, due = 0, 0, time.monotonic() + 60
    events = driver.folder / "events.jsonl"
    while driver.process.poll() is None:
        time.sleep(0.1)
        driver.look()
        found = []
        for path in (driver.folder / ".workers").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
                found += alive([psutil.Process(json.loads(path.read_text())["pid"])])
        done = events.read_bytes().count(b'"event":"done"') if events.exists() else 0
        if found and done > num_done:
            with contextlib.suppress(psutil.NoSuchProcess):
                memory += [found[0].memory_info().rss] * (done - num_done)
            num_done = done
        if kill_every and found and time.monotonic() >= due:
            with contextlib.suppress(psutil.NoSuchProcess):
                found[rng.integers(len(found))].kill()
                num_killed += 1
            due = time.monotonic() + kill_every * rng.uniform(0.5, 1.5)
    return memory, num_killed


def soak(num_trials: int, kill_every: float, seed: int, place: Path) -> list[str]:
    """Both sweeps; what was wrong."""
    rng, cli = np.random.default_rng(seed), Cli(place / "cache")
    prune = {"criterion": "random", "ratio": 0.3, "site": "conv"}
    space = write_space(
        place / "soak.yaml", prune=prune, controls=["none"], iterations=1,
        seeds=list(range(-(-num_trials // 3))),
    )  # fmt: skip
    small = ("--max-disk", "2")
    begun = time.monotonic()
    driver = cli.start(space, place / "calm", "--workers", "1", *small)
    memory, _ = wait(driver, 0, rng)
    code, _, err = driver.finish()
    assert code == 0, err
    expected = results(place / "calm")
    print(f"calm: {len(expected)} trials in {time.monotonic() - begun:.0f} s in "
          f"{len(list((place / 'calm' / '.workers').glob('*')))} worker", flush=True)  # fmt: skip
    tenth = max(1, len(memory) // 10)
    for name, part in (("first", memory[:tenth]), ("last", memory[-tenth:])):
        middle, most = statistics.median(part) / 1e6, max(part) / 1e6
        print(f"memory of the {name} {tenth} trials: {middle:.0f} MB (median), {most:.0f} (most)")
    shutil.rmtree(place / "calm")
    cli.environment = with_fault(cli.environment, place / "fault", BREAKS)
    begun, num_killed, starts = time.monotonic(), 0, 0
    code = 1
    while starts < 10:  # a trial may have bad luck three times
        starts += 1
        driver = cli.start(space, place / "faults", "--workers", "2", "--retry-failed", *small)
        _, killed = wait(driver, kill_every, rng)
        num_killed += killed
        code, _, err = driver.finish()
        if code == 0 and results(place / "faults").keys() == expected.keys() and all(
            results(place / "faults").values()
        ):
            break
    retries = driver.events("retry")
    injected = sum("injected" in e["error"]["reason"] for e in retries)
    print(
        f"faults: {len(results(place / 'faults'))} trials in {time.monotonic() - begun:.0f} s, "
        f"{num_killed} workers killed, {len(retries)} attempts repeated ({injected} for a "
        f"commit that failed), {starts} starts",
        flush=True,
    )
    problems = [] if code == 0 else [f"exit code {code}: {err}"]
    found = results(place / "faults")
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing or len(found) != len(expected):
        problems.append(f"{len(differing)} of {len(expected)} results differ")
    assert_each_node_once(place / "faults")
    problems += orphan_files(place / "faults" / "store" / "nodes")[:10]
    wait_gone([p for d in cli.drivers for p in d.seen.values()], 60)
    cli.end()
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="fatefront-soak-"))
    try:
        problems = soak(asked.trials, asked.kill_every, asked.seed, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(*(problems or ["equal: every result, each node once, no orphan file"]), sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
