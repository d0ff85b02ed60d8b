"""Memory of real workers: one that leaks is replaced, one that runs out of a GPU's is tried once
more, and both leave the results as they are.
"""

import shutil

import pytest
from broken_commit import with_fault
from sweep_runs import Cli, results, write_space

from orchestrator.ledger.records import load_records, read_events

pytestmark = pytest.mark.slow
LEAKS = '''
kept = []


def before_commit(*args):
    kept.append(b"\\1" * (1200 << 20 if kept else 1))
'''
NO_ROOM = '''
def before_commit(key, *args):
    import os
    import torch

    seen = os.path.join(os.environ["FAULT_NOTES"], key)
    if not os.path.exists(seen):
        open(seen, "w").close()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def calm(place):
    client = Cli(place / "cache")
    yield client
    assert not client.end()


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "random", "ratio": 0.3, "site": "conv"}
    return write_space(place / "tiny.yaml", prune=prune, controls=["none"], iterations=1)


@pytest.fixture(scope="module")
def expected(calm, place, space):
    code, _, err = calm.run(space, place / "reference", "--workers", "1")
    assert code == 0, err
    records = load_records(place / "reference").values()
    assert len({r["execution"]["pid"] for r in records}) == 1
    return results(place / "reference")


def test_a_worker_that_leaks_is_replaced(place, space, expected):
    """1.2 GB stay after its second trial; the third has a new process."""
    cli = Cli(place / "cache")
    cli.environment = with_fault(cli.environment, place / "leaks", LEAKS)
    code, _, err = cli.run(space, place / "leaking", "--workers", "1")
    assert code == 0, err
    records = sorted(
        load_records(place / "leaking").values(), key=lambda r: r["execution"]["started"]
    )
    first, second, third = (r["execution"]["pid"] for r in records)
    assert first == second
    assert third != second
    assert results(place / "leaking") == expected
    assert not cli.end()


def test_no_room_on_a_gpu(place, space, expected):
    """Every node's first attempt runs out of memory; each has one more, with half the packing."""
    cli, notes = Cli(place / "cache"), place / "notes"
    notes.mkdir()
    cli.environment = with_fault(cli.environment, place / "no_room", NO_ROOM)
    cli.environment |= {"FAULT_NOTES": str(notes)}
    code, _, err = cli.run(space, place / "full", "--workers", "2")
    assert code == 0, err
    retries = [e for e in read_events(place / "full") if e["event"] == "retry"]
    assert {e["error"]["type"] for e in retries} == {"OutOfMemory"}
    assert sorted(e["key"] for e in retries) == sorted(expected)
    assert results(place / "full") == expected
    assert not cli.end()
