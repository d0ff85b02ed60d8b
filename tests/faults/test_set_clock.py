"""A whole sweep while somebody sets the clock: Ray, driver, workers and MLflow's store see it."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from sweep_runs import Cli, results, write_space

from orchestrator.ledger.records import read_events

HOURS = 3600


@pytest.fixture(scope="module")
def library(place: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    made = place / "set_clock.so"
    source = Path(__file__).with_name("set_clock.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_under_a_clock_that_is_set_forth_and_back(place, cli, library):
    """By 5 hours forth, then to 5 behind; a watchdog or budget by that clock would end it."""
    space = write_space(place / "tiny.yaml")
    clock = place / "clock"
    clock.write_bytes(struct.pack("q", 0))
    under = Cli(place / "cache")
    under.environment |= {"LD_PRELOAD": str(library), "FATEFRONT_TEST_CLOCK": str(clock)}
    driver = under.start(
        space, place / "set", "--workers", "2", "--hours", "1", "--stalled-after", "10", "--json",
        tracking_uri=f"sqlite:///{place}/mlflow.db",
    )  # fmt: skip
    try:
        for num, hours in ((3, 5), (6, -5)):
            driver.wait_for("done", num)
            with clock.open("r+b") as file:  # the page that is mapped, not another file
                file.write(struct.pack("q", hours * HOURS))
        code, _, err = driver.finish(600)
    finally:
        left = under.end()
    assert code == 0, err
    assert not left
    times = [event["time"] for event in read_events(place / "set")]
    assert max(times) - min(times) > 9 * HOURS  # it was seen
    kinds = {event["event"] for event in read_events(place / "set")}
    assert not kinds & {"retry", "failed"}
    elapsed = [event["elapsed"] for event in read_events(place / "set")]
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] < HOURS

    code, document, err = cli.run(space, place / "undisturbed", "--workers", "2")
    assert code == 0, err
    assert results(place / "set") == results(place / "undisturbed")
    assert document["num_done"] == len(results(place / "set"))
