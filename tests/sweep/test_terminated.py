"""SIGTERM, as schedulers of clusters send it: one line, what was finished is kept."""

import signal

import pytest
from sweep_runs import wait_gone, write_space

pytestmark = pytest.mark.slow


def test_sigterm_ends_a_sweep_with_one_line_and_it_goes_on(cli, place):
    space, folder = write_space(place / "tiny.yaml"), place / "terminated"
    driver = cli.start(space, folder, "--workers", "2")
    driver.wait_for("done", 2)
    code, out, err = driver.signal(signal.SIGTERM)
    assert code == 143
    *lines, last = err.strip().splitlines()
    assert last.startswith("ended by SIGTERM; all that was finished is kept; go on with: ")
    assert not [line for line in [out, *lines] if "***" in line or "PC: @" in line]
    assert [event["event"] for event in driver.events("interrupted")] == ["interrupted"]
    wait_gone(driver.look(), 60)
    num = len(driver.events("done"))
    code, document, err = cli.run(space, folder, "--workers", "2")
    assert code == 0, err
    assert document["num_done"] == 11
    assert document["num_computed_now"] <= 11 - num
