"""Models that nobody needs are dropped; trained for real, and by hand with sizes alone."""

from pathlib import Path

import pytest
from fake_sweep import FakeSweep, fake_spec, node_document

from orchestrator.fronts.front import sweep_front
from orchestrator.search.disk import FREE_BYTES, DiskKeeper
from orchestrator.search.schedule import Attempt, Schedule
from search_spaces.sweep_spec import SweepSpec
from trainables.node import MODEL_FILES

MODEL, RESULT = 1000, 10
FILES = {MODEL_FILES[0]: b"w" * MODEL, "validation.npz": b"p" * RESULT}
SPEC = fake_spec(iterations=3, controls=("none", "random"), seeds=(0, 1))


class Sized(FakeSweep):
    """Nodes have a model and predictions of known sizes."""

    def commit(self, key: str) -> None:
        document = {k: v for k, v in node_document(key).items() if k != "key"}
        self.store.commit(key, FILES, document)

    def held(self) -> int:
        nodes = Path(self.store.root) / "nodes"
        names = tuple(FILES)
        return sum(p.stat().st_size for p in nodes.rglob("*") if p.name in names)

    def kept(self, schedule: Schedule) -> set[str]:
        return {key for key in schedule.settled if self.store.is_there(key, MODEL_FILES[0])}


@pytest.fixture
def sweep(tmp_path: Path):
    sweep = Sized(tmp_path)
    yield sweep
    if sweep.ledger is not None:
        sweep.ledger.close()


def drive(sweep: Sized, spec: SweepSpec, limit: int | None, workers: int, **options):
    """To the end; returns the schedule, the keeper and the most bytes ever held."""
    schedule = sweep.start(spec)
    keeper = DiskKeeper(schedule, limit, **options)
    keeper.settled()
    at_work, most = [], 0
    while True:
        while len(at_work) < workers:
            step = schedule.next()
            if not isinstance(step, Attempt):
                break
            for parent in step.node.parents:  # what a trial starts from is there, or made first
                if not sweep.store.is_there(parent, MODEL_FILES[0]):
                    assert parent in schedule.absent
                    sweep.store.replace(parent, {MODEL_FILES[0]: b"w" * MODEL})
            at_work.append(step)
        if not at_work:
            return schedule, keeper, most
        sweep.finish(schedule, at_work.pop(0))
        keeper.settled()
        most = max(most, sweep.held())


@pytest.mark.parametrize("workers", [1, 3])
def test_a_limit_holds_and_changes_no_result(sweep: Sized, tmp_path: Path, workers: int) -> None:
    free = Sized(tmp_path / "free")
    whole, idle, most = drive(free, SPEC, None, workers)
    free.ledger.close()
    assert not idle.notes
    assert free.held() == most == len(whole.settled) * (MODEL + RESULT)
    limit = most // 2
    schedule, keeper, most = drive(sweep, SPEC, limit, workers)
    assert most <= limit
    assert schedule.settled == whole.settled
    for key, record in whole.records.items():
        assert schedule.records[key]["result"] == record["result"]
    assert keeper.bytes_held == sweep.held()
    assert set(sweep_front(schedule.records, SPEC).keys) <= sweep.kept(schedule)
    dropped = [key for event in sweep.events("dropped") for key in event["keys"]]
    assert schedule.absent == set(dropped) == set(schedule.settled) - sweep.kept(schedule)
    # without remaking: what a trial started from was never dropped before it
    assert len(dropped) == len(set(dropped)) == keeper.num_dropped
    assert keeper.notes == [
        f"{len(dropped)} models were dropped to keep to the disk; the same key is computed again "
        "where one is needed"
    ]


def test_models_of_chains_go_before_baselines(sweep: Sized) -> None:
    schedule, _, _ = drive(sweep, SPEC, None, 1)
    keeper = DiskKeeper(schedule, 1)
    keeper._look()
    order = [schedule.tree.nodes[key].trial.n for key in keeper._droppable()]
    assert order == sorted(order, key=lambda n: (n == 0, n))
    assert set(order) >= {1, 2, 3}


def test_a_limit_below_what_is_needed_is_said(sweep: Sized) -> None:
    schedule, keeper, _ = drive(sweep, SPEC, 3 * MODEL, 2)
    assert len(schedule.settled) == len(sweep.events("done"))
    assert set(sweep_front(schedule.records, SPEC).keys) <= sweep.kept(schedule)
    assert keeper.is_short
    assert keeper.notes[-1].startswith("--max-disk 3e-06 could not be held: the models")


def test_a_disk_that_runs_full_is_a_limit_nobody_has_to_give(sweep: Sized) -> None:
    disk = FREE_BYTES + 12_000
    schedule, keeper, most = drive(sweep, SPEC, None, 2, free=lambda store: disk - sweep.held())
    assert keeper.num_dropped
    assert most <= 12_000
    assert not keeper.is_short
    assert all(status == "done" for status in schedule.settled.values())


def test_a_wider_space_makes_a_dropped_parent_once(sweep: Sized) -> None:
    """Two children of one dropped parent do not run at once before it is there again."""
    drive(sweep, SPEC, 8 * MODEL, 1)
    deeper = fake_spec(iterations=4, controls=("none", "random"), seeds=(0, 1))
    schedule = sweep.start(deeper)
    for key in schedule.tree.nodes:  # all models gone, roots included
        sweep.store.drop(key, MODEL_FILES)
    schedule = sweep.start(deeper)
    schedule.absent = set(schedule.settled)
    running: list[Attempt] = []
    while isinstance(step := schedule.next(), Attempt):
        missing = schedule._missing(step.node)
        assert missing
        assert not any(missing & schedule._missing(other.node) for other in running)
        running.append(step)
    roots = {key for key, node in schedule.tree.nodes.items() if node.trial.n == 0}
    assert len(running) == len(roots)  # one a root: the others wait for it
    first = running[0]
    made = schedule._missing(first.node)
    sweep.finish(schedule, first)
    assert not made & schedule.absent
    assert isinstance(schedule.next(), Attempt)


def test_what_another_sweep_computed_is_not_dropped(sweep: Sized, tmp_path: Path) -> None:
    first, _, _ = drive(sweep, SPEC, None, 1)
    other = Sized(tmp_path / "other", store=Path(sweep.store.root))
    schedule, keeper, _ = drive(other, SPEC, 1, 1)
    assert schedule.settled == first.settled
    assert other.kept(schedule) == set(first.settled)
    assert keeper.bytes_held == keeper.num_dropped == 0
    other.ledger.close()
