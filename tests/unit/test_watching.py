"""The line of a running sweep: counts, forecast, what is left out where it is narrow."""

import fcntl
import json
import re

import pytest
from fake_sweep import DATA, FakeSweep, fake_spec
from tiny_sweep import run_tiny
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.ledger.records import Ledger, is_running
from orchestrator.ledger.stored_ledger import open_ledger
from orchestrator.plan import Cost
from orchestrator.search.schedule import Budget
from orchestrator.search.tree import full_tree
from orchestrator.watching.forecast import Forecast
from orchestrator.watching.gpu_use import GpuUse, parse_use
from orchestrator.watching.ledger_source import open_source
from orchestrator.watching.progress import SweepProgress
from orchestrator.watching.standing import Standing, status_line
from orchestrator.watching.view import SweepView
from search_spaces.words import number
from trainables.errors import UserError
from trainables.store import Store
from trainables.trial_spec import DataIdentity

MANIFEST = {
    "device": "cpu",
    "data": {"fingerprint": "f", "group_digest": "g", "num_images": 60, "classes": ["a", "b"]},
}
IDENTITY = DataIdentity("f", "g")
FAKE = {"fingerprint": DATA.fingerprint, "group_digest": DATA.group_digest}


def node_event(kind, node, time, **fields):
    return {
        "event": kind, "time": time, "key": node.key, "trial": node.document(),
        "parents": list(node.parents), "compares_with": {},
    } | fields  # fmt: skip


def started(time=0.0, workers=1, **budget):
    return {"event": "started", "time": time, "workers": workers, "budget": budget}


def done(node, time, cached=False):
    return node_event("done", node, time, execution={"cached": cached, "seconds": {"train": 1.0}})


def grid_nodes(spec):
    """In an order in which they can run."""
    return sorted(full_tree(spec, IDENTITY, "cpu").nodes.values(), key=lambda n: n.trial.n)


def test_the_rest_of_a_grid_is_its_planned_work_at_the_measured_rate():
    spec = fake_spec()
    nodes = grid_nodes(spec)
    assert len(nodes) == 11
    cost = Cost(spec, "cpu", (60, 2))
    forecast, progress = Forecast(spec, MANIFEST), SweepProgress()
    planned = forecast.remaining(progress, 0.0)
    assert (planned.num_trials, planned.at_most, planned.measured) == (11, False, False)
    assert planned.seconds == pytest.approx(sum(map(cost.seconds, nodes)))
    # the root was handed out before the workers were there: its work counts, not its wait
    progress.take([started(), node_event("scheduled", nodes[0], 0.0), done(nodes[0], 40.0)])
    rate = 1.0 / cost.seconds(nodes[0])
    left = sum(map(cost.seconds, nodes[1:]))
    assert forecast.remaining(progress, 40.0).seconds == pytest.approx(rate * left)
    # the next took 7 s from hand to hand: from now on that is the rate
    progress.take([node_event("scheduled", nodes[1], 40.0), done(nodes[1], 47.0)])
    rate = 7.0 / cost.seconds(nodes[1])
    left = sum(map(cost.seconds, nodes[2:]))
    found = forecast.remaining(progress, 47.0)
    assert (found.measured, found.num_trials) == (True, 11)
    assert found.seconds == pytest.approx(rate * left)
    # a running trial has what it ran behind it
    progress.take([node_event("scheduled", nodes[2], 47.0)])
    assert forecast.remaining(progress, 50.0).seconds == pytest.approx(rate * left - 3.0)


@pytest.mark.parametrize("jump", [5 * 3600.0, -5 * 3600.0])
def test_a_clock_that_is_set_during_a_trial_says_nothing_of_its_length(jump):
    """The worker's own seconds hold, which no clock of the day measures; those before and after
    the jump are as they were.
    """
    spec = fake_spec()
    nodes = grid_nodes(spec)
    cost = Cost(spec, "cpu", (60, 2))
    forecast, progress = Forecast(spec, MANIFEST), SweepProgress()
    progress.take([started(), node_event("scheduled", nodes[0], 0.0), done(nodes[0], 1.0)])
    progress.take([node_event("scheduled", nodes[1], 1.0), done(nodes[1], 2.0 + jump)])
    progress.take([node_event("scheduled", nodes[2], 2.0 + jump), done(nodes[2], 4.0 + jump)])
    planned = sum(cost.seconds(node) for node in nodes[1:3])
    left = sum(map(cost.seconds, nodes[3:]))
    found = forecast.remaining(progress, 4.0 + jump)
    assert found.measured
    assert found.seconds == pytest.approx((1.0 + 2.0) / planned * left)


@pytest.mark.parametrize("jump", [5 * 3600.0, -5 * 3600.0])
@pytest.mark.parametrize("hours", [None, 0.002])
def test_a_clock_that_is_set_leaves_the_line_as_it_is(jump, hours, monkeypatch):
    """Looked at after a jump, be it before or after the last event: times go on, and so does what
    is left, of the work as of the hours.
    """
    clock, looked = [1e9], [100.0]
    monkeypatch.setattr("orchestrator.watching.view.time.time", lambda: clock[0])
    monkeypatch.setattr("orchestrator.watching.view.time.monotonic", lambda: looked[0])
    spec = fake_spec()
    nodes = grid_nodes(spec)
    view = SweepView(spec, MANIFEST, "runs/here")
    monkeypatch.setattr(view, "_front", lambda exact: None)  # these trials have no results

    def take(elapsed, event):
        clock[0] += elapsed - looked[0] + 100
        looked[0] = 100 + elapsed
        view.take([event | {"time": clock[0], "elapsed": elapsed}])

    take(0.0, started(**({} if hours is None else {"hours": hours})))
    take(0.1, node_event("scheduled", nodes[0], 0.0))
    take(1.0, done(nodes[0], 0.0))
    take(1.0, node_event("scheduled", nodes[1], 0.0))
    before = view.standing()
    clock[0] += jump
    after = view.standing()
    assert (after.state, after.num_done, after.num_running) == ("running", 1, 1)
    assert after.seconds == before.seconds == pytest.approx(1.0)
    assert after.seconds_left == before.seconds_left
    take(2.0, done(nodes[1], 0.0))
    take(2.0, node_event("scheduled", nodes[2], 0.0))
    later = view.standing()
    assert later.seconds == view.counts()[2] == pytest.approx(2.0)
    assert later.seconds_left < before.seconds_left
    if hours is not None:
        assert later.seconds_left == pytest.approx(3600 * hours - 2.0)


def test_workers_share_the_work_but_a_chain_waits_for_itself():
    spec = fake_spec(prune={"criterion": "snnl", "ratio": 0.1, "site": "conv"}, controls=())
    root, first, second = grid_nodes(spec)
    cost = Cost(spec, "cpu", (60, 2))
    progress = SweepProgress()
    progress.take([started(workers=8)])
    whole = sum(map(cost.seconds, (root, first, second)))
    assert Forecast(spec, MANIFEST).remaining(progress, 0.0).seconds == pytest.approx(whole)


def test_what_cannot_run_is_not_left():
    spec = fake_spec()
    nodes = grid_nodes(spec)
    progress = SweepProgress()
    error = {"type": "TrainingError", "reason": "nan"}
    progress.take([started(), done(nodes[0], 1.0)])
    progress.take([node_event("failed", nodes[1], 2.0, error=error, execution={})])
    # its child is blocked: the root, the failure and the other four chains' eight are left
    assert Forecast(spec, MANIFEST).remaining(progress, 2.0).num_trials == 10
    stopped = {"event": "stopped", "configuration": nodes[2].configuration}
    progress.take([done(nodes[2], 3.0), stopped])
    assert Forecast(spec, MANIFEST).remaining(progress, 3.0).num_trials == 9


def test_a_budget_and_a_sampler_are_bounds():
    progress = SweepProgress()
    progress.take([started(trials=5)])
    assert Forecast(fake_spec(), MANIFEST).remaining(progress, 0.0).num_trials == 5
    found = Forecast(fake_spec("tpe"), MANIFEST).remaining(progress, 0.0)
    assert (found.num_trials, found.at_most) == (5, True)
    assert found.seconds > 0
    progress.take([started(hours=0.001)])
    assert Forecast(fake_spec("tpe"), MANIFEST).remaining(progress, 0.0).seconds <= 3.6
    endless = fake_spec(
        "random", prune={"criterion": "snnl", "ratio": number(0.1, 0.3), "site": "conv"}
    )
    progress.take([started()])
    found = Forecast(endless, MANIFEST).remaining(progress, 0.0)
    assert (found.num_trials, found.seconds) == (None, None)


def test_a_sampled_sweep_is_forecast_from_its_own_ledger(tmp_path):
    """Proposals of the real sampler, through the real ledger."""
    sweep, spec = FakeSweep(tmp_path), fake_spec("tpe")
    sweep.run(spec, Budget(trials=7))
    progress = SweepProgress()
    progress.take([started(trials=7), *sweep.ledger.events])
    sweep.ledger.close()
    found = Forecast(spec, MANIFEST | {"data": MANIFEST["data"] | FAKE}).remaining(progress, 0.0)
    assert 0 < progress.num_computed <= 7
    assert len(progress.settled) <= found.num_trials <= 7
    assert found.at_most


def standing(**changes):
    fields = {
        "sweep": "mine", "folder": "runs/mine", "state": "running", "num_trials": 11,
        "at_most": False, "num_done": 5, "num_running": 2, "num_cached": 1, "num_failed": 0,
        "seconds": 60.0, "seconds_left": 200.0, "measured": True, "hypervolume": 0.12345,
        "gpu": GpuUse(87.4, 2), "stopped": None,
    }  # fmt: skip
    return Standing(**(fields | changes))


def test_the_line_says_all_and_in_a_narrow_terminal_what_matters_most():
    line = status_line(standing())
    assert line == (
        "mine  5 of 11 done  2 running  1 cached  0 failed  3 min left  hypervolume 0.1235  "
        "2 GPUs 87 %"
    )
    for width in (20, 40, 60, 80, 100):
        narrow = status_line(standing(), width)
        assert len(narrow) <= width
        assert re.search("5( of |/)11 done", narrow)
    usual = standing(sweep="quickstart", num_trials=22, num_done=19, gpu=None)
    assert status_line(usual, 80) == (
        "quickstart  19/22 done  2 running  1 cached  0 failed  3 min left  HV 0.1235"
    )
    assert "left" in status_line(standing(), 60)
    assert "HV" not in status_line(standing(), 50)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"at_most": True}, ["5 of at most 11 done", "at most 3 min left"]),
        ({"measured": False}, ["3 min left as planned"]),
        ({"num_trials": None, "seconds_left": None}, ["5 done", "end unknown"]),
        ({"state": "finished", "stopped": "hours"}, ["finished", "stopped early: hours"]),
        ({"state": "lost"}, ["the driver is gone"]),
        ({"gpu": GpuUse(3.0, 1)}, ["GPU 3 %"]),
    ],
)
def test_the_line_s_other_words(changes, words):
    line = status_line(standing(**changes))
    assert [word for word in words if word not in line] == []
    assert ("left" in line) is (changes.get("state") is None and "seconds_left" not in changes)


def test_use_of_the_gpus_this_process_sees():
    said = "0, GPU-aa, 80\n1, GPU-bb, 20\n2, GPU-cc, [N/A]\n"
    assert parse_use(said, None) == GpuUse(50.0, 2)
    assert parse_use(said, "1") == GpuUse(20.0, 1)
    assert parse_use(said, "GPU-a") == GpuUse(80.0, 1)
    assert parse_use(said, "") is None
    assert parse_use("", None) is None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    base = tmp_path_factory.mktemp("watched")
    run_tiny(base / "sweep", base / "cache", seeds=(0,))
    ledger = Ledger(base / "sweep").open()
    ledger.append("finished", stopped=None)
    ledger.close()
    return base / "sweep"


def tree(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_a_finished_sweep_is_one_line_and_nothing_is_written(sweep):
    before = tree(sweep)
    result = CliRunner().invoke(app, ["watch", str(sweep)])
    assert (result.exit_code, result.stdout) == (0, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("tiny  4 of 4 done  finished  0 cached  0 failed  hypervolume ")
    document = json.loads(CliRunner().invoke(app, ["watch", str(sweep), "--json"]).stdout)
    assert (document["state"], document["num_done"], document["seconds_left"]) == (
        "finished", 4, None,
    )  # fmt: skip
    assert tree(sweep) == before


def test_a_folder_that_only_can_be_read(sweep):
    """Readers take no lock that another reader or the driver would notice."""
    ledger = Ledger(sweep).open()
    try:
        assert is_running(sweep)
        assert is_running(sweep)
        assert open_source(str(sweep)).is_alive()
    finally:
        ledger.close()
    with (sweep / ".lock").open("rb") as one:
        fcntl.flock(one, fcntl.LOCK_SH)  # another reader in the same moment
        assert not is_running(sweep)


def test_events_come_as_they_are_written(sweep, tmp_path):
    source = open_source(str(sweep))
    num = len(source.new_events())
    assert source.new_events() == []
    with (sweep / "events.jsonl").open("ab") as file:
        file.write(b'{"seq":99,"time":1,"event":"interr')
        file.flush()
        assert source.new_events() == []  # a line that is still being written
        file.write(b'upted"}\n')
        file.flush()
        assert [e["event"] for e in source.new_events()] == ["interrupted"]
        file.truncate(file.tell() - len(b'{"seq":99,"time":1,"event":"interrupted"}\n'))
    assert num > 4


def test_the_ledger_in_a_store_is_watched_by_its_uri(sweep, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name in ("manifest.json", "sweep.yaml"):
        (folder / name).write_bytes((sweep / name).read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    store = Store(f"file://{tmp_path}/store")
    with open_ledger(folder, store) as (ledger, stored):
        stored.mirror(ledger, manifest)
        stored.keep("sweep.yaml")
        ledger.append("started", sweep="tiny", seeds=[0], sampler="grid")
        source = open_source(f"file://{tmp_path}/store/sweeps/tiny")
        assert source.spec().name == "tiny"
        assert source.is_alive()
        assert [e["event"] for e in source.new_events()] == ["started"]
        assert source.new_events() == []
        ledger.append("finished", stopped=None)
        assert [e["event"] for e in source.new_events()] == ["finished"]
    assert not source.is_alive()
    with pytest.raises(UserError, match=r"is a store: watch one of .*sweeps: tiny"):
        open_source(f"file://{tmp_path}/store")


def test_mistakes_in_the_place(tmp_path, sweep):
    result = CliRunner().invoke(app, ["watch", str(sweep.parent / "swep")])
    assert result.exit_code == 2
    assert f"did you mean '{sweep}'?" in result.stderr
    assert CliRunner().invoke(app, ["watch", str(tmp_path)]).exit_code == 2
    wrong = CliRunner().invoke(app, ["watch", str(sweep), "--log-format", "jsn"])
    assert wrong.exit_code == 2
    assert "did you mean 'json'?" in wrong.stderr
