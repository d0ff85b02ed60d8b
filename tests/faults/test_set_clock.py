"""A whole sweep on a machine whose clock is set, forth and back, while it runs.

libfaketime (apt-get install faketime) gives driver, Ray and workers a clock of the day that a file
sets; as on a real machine the clocks that count from the boot go on. The files' own times are
those of the kernel.
"""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from sweep_runs import Cli, Driver, results, write_space

from orchestrator.ledger.records import read_events

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
FORTH, BACK = 5 * 3600, -3 * 3600

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (apt-get install faketime)"),
]


class Clock:
    """The clock of the day of the processes of one ``Cli``."""

    def __init__(self, cli: Cli, file: Path) -> None:
        self._cli, self._file = cli, file
        self._before = cli.environment
        cli.environment = self._before | {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """Before (below 0) or after the true time by so much."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n")
        os.replace(draft, self._file)

    def leave(self) -> None:
        """The true time, for drivers that are started from now on."""
        self._cli.environment = self._before


@pytest.fixture
def clock(cli, tmp_path):
    clock = Clock(cli, tmp_path / "offset")
    yield clock
    clock.leave()


@pytest.fixture(scope="module")
def space(place):
    return write_space(place / "tiny.yaml")


@pytest.fixture(scope="module")
def reference(cli, place, space):
    code, _, err = cli.run(space, place / "reference", "--workers", "2")
    assert code == 0, err
    return results(place / "reference")


def jumps(driver: Driver) -> list[float]:
    """By how much the ledger's clock of the day was set between its events."""
    events = list(read_events(driver.folder))
    assert all(a["elapsed"] <= b["elapsed"] for a, b in pairwise(events))
    steps = [
        (b["time"] - a["time"]) - (b["elapsed"] - a["elapsed"]) for a, b in pairwise(events)
    ]
    return [step for step in steps if abs(step) > 600]


def test_results_and_hours_do_not_go_by_a_clock_that_is_set(cli, place, space, reference, clock):
    folder = place / "set"
    uri = f"sqlite:///{folder}/mlflow.db"
    driver = cli.start(space, folder, "--workers", "2", "--hours", "1", tracking_uri=uri)
    driver.wait_for("done", 2)
    clock.set(FORTH)
    driver.wait_for("done", 5)
    clock.set(BACK)
    driver.wait_for("done", 8)
    clock.set(0)
    code, out, err = driver.finish()
    assert code == 0, err
    assert "Traceback" not in err
    assert [round(step / 3600) for step in jumps(driver)] == [5, -8, 3]
    assert results(folder) == reference
    counted = Counter(event["key"] for event in driver.events("done"))
    assert set(counted.values()) == {1}
    assert driver.events("retry") == []
    (end,) = driver.events("finished")
    assert end["stopped"] is None
    assert end["elapsed"] < 600
    took = out.partition(" computed now in ")[2].partition(",")[0]
    assert took.endswith((" s", " min")), took  # a set clock would make hours of it
    assert _runs(uri) == dict.fromkeys(reference, "FINISHED")


def _runs(uri: str) -> dict[str, str]:
    """Key -> status of its run in MLflow, of which there may be one."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = [
        (run.data.tags["fatefront.key"], run.info.status)
        for run in client.search_runs(experiments, max_results=1000)
        if "fatefront.key" in run.data.tags
    ]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("offset", [FORTH, BACK])
def test_a_budget_of_hours_is_as_long_as_it_is(cli, place, space, reference, clock, offset):
    """Neither over at once, nor without an end."""
    folder = place / f"budget{offset}"
    driver = cli.start(space, folder, "--workers", "1", "--hours", "0.009")  # 32 seconds
    driver.wait_for("scheduled", 1)
    clock.set(offset)
    code, _, err = driver.finish()
    assert code == 0, err
    assert [round(step / 3600) for step in jumps(driver)] == [offset / 3600]
    (started,), (end,) = driver.events("started"), driver.events("finished")
    assert end["stopped"] == "hours"
    assert 32 <= end["elapsed"] - started["elapsed"] < 90
    own = {key: result for key, result in results(folder).items() if result is not None}
    assert 0 < len(own) < len(reference)
    assert own == {key: reference[key] for key in own}
