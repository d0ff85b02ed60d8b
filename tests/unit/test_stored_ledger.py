"""A ledger in its store: one history, whoever writes it; a new head goes on from it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.ledger.driver_lease import DriverLease
from orchestrator.ledger.records import Ledger, read_events
from orchestrator.ledger.stored_ledger import StoredLedger, is_outside, open_ledger
from trainables.errors import UserError
from trainables.store import Store

MANIFEST = {"sweep": "mine", "sweep_id": "0123456789abcdef"}


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path, monkeypatch):
    """A shared folder and an object store promise the same."""
    monkeypatch.setenv("FATEFRONT_CACHE_GB", "0")
    name = f"{tmp_path.name}-store"
    return Store(str(tmp_path / name) if request.param == "folder" else f"memory://{name}")


@pytest.fixture
def begin():
    """As a driver begins, without the courtesy of a lease."""
    opened = []

    def start(folder: Path, store: Store) -> tuple[Ledger, StoredLedger]:
        ledger = Ledger(folder).open()
        opened.append(ledger)
        stored = StoredLedger(store.storage, folder)
        stored.restore(ledger)
        if not (folder / "manifest.json").exists():
            (folder / "manifest.json").write_text(json.dumps(MANIFEST))
        stored.mirror(ledger, json.loads((folder / "manifest.json").read_text()))
        return ledger, stored

    yield start
    for ledger in opened:
        ledger.close()


def test_an_empty_folder_goes_on_from_the_store(tmp_path, store, begin):
    old, _ = begin(tmp_path / "head" / "mine", store)
    for number in range(12):
        old.append("retry", key=str(number), figure=0.1 + number / 3, text="ü")
    old.close()
    new, _ = begin(tmp_path / "new head" / "mine", store)
    assert new.events == old.events
    assert new.path.read_bytes() == old.path.read_bytes()
    assert json.loads((new.folder / "manifest.json").read_text()) == MANIFEST
    new.append("retry", key="12")
    new.close()
    back, _ = begin(tmp_path / "head" / "mine", store)  # and the old head from the new one's
    back.close()
    assert [e["key"] for e in read_events(back.folder)] == [str(n) for n in range(13)]


def test_what_stood_in_the_folder_alone_is_put(tmp_path, store, begin):
    alone = Ledger(tmp_path / "mine").open()
    alone.append("retry", key="0")
    alone.close()
    (tmp_path / "mine" / "manifest.json").write_text(json.dumps(MANIFEST))
    begin(tmp_path / "mine", store)[0].close()
    names = sorted(store.storage.sizes(f"{store.root}/sweeps/mine/events"))
    assert [name[-13:] for name in names] == ["00000000.json"]
    assert store.storage.read(names[0]) == (tmp_path / "mine" / "events.jsonl").read_bytes()


def test_of_two_drivers_the_second_to_write_is_refused(tmp_path, store, begin):
    first, _ = begin(tmp_path / "a" / "mine", store)
    second, _ = begin(tmp_path / "b" / "mine", store)
    first.append("started", driver="a")
    with pytest.raises(UserError, match=r"another event 0 than .*another driver is at work"):
        second.append("started", driver="b")
    assert second.path.read_bytes() == b""  # a refused event does not stand in the folder
    first.append("retry", key="0")
    second.close()
    begin(second.folder, store)[0].close()
    assert len(list(read_events(second.folder))) == 2
    first.close()


def test_a_folder_with_another_history_is_refused(tmp_path, store, begin):
    begin(tmp_path / "a" / "mine", store)[0].append("retry", key="first")
    other = tmp_path / "b" / "mine"
    ledger = Ledger(other).open()
    ledger.append("retry", key="other")
    ledger.close()
    (other / "manifest.json").write_text(json.dumps(MANIFEST))
    with pytest.raises(UserError, match="holds another event 0 than"):
        begin(other, store)


def test_another_sweep_of_the_same_name_is_refused(tmp_path, store, begin):
    begin(tmp_path / "a" / "mine", store)[0].append("retry", key="first")
    (tmp_path / "b" / "mine").mkdir(parents=True)
    (tmp_path / "b" / "mine" / "manifest.json").write_text(
        json.dumps(MANIFEST | {"sweep_id": "f" * 16})
    )
    with pytest.raises(UserError, match=r"holds another sweep .*choose another --out"):
        begin(tmp_path / "b" / "mine", store)
    begin(tmp_path / "b" / "other", store)[0].close()


def test_a_history_with_a_hole_is_refused(tmp_path, store, begin):
    ledger, _ = begin(tmp_path / "a" / "mine", store)
    for number in range(3):
        ledger.append("retry", key=str(number))
    store.storage.remove(f"{store.root}/sweeps/mine/events/00000001.json")
    with pytest.raises(UserError, match="events are missing"):
        begin(tmp_path / "b" / "mine", store)


def test_the_ledger_is_kept_in_stores_outside_the_folder(tmp_path):
    assert not is_outside(Store(str(tmp_path / "mine" / "store")), tmp_path / "mine")
    assert is_outside(Store(str(tmp_path / "store")), tmp_path / "mine")
    assert is_outside(Store(f"memory://{tmp_path.name}"), tmp_path / "mine")


# -- the lease --------------------------------------------------------------------------------

HOLDER = """
import sys, time
from orchestrator.ledger.driver_lease import DriverLease
from trainables.storage import Storage
DriverLease(Storage(sys.argv[1]), sys.argv[2], renewed=0.1).take()
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_driver_is_refused_while_the_first_is_alive(tmp_path, store):
    path = f"{store.root}/driver.json"
    first = DriverLease(store.storage, path, renewed=0.1).take()
    said = []
    with pytest.raises(UserError, match=r"another `fatefront run` \(host .* is at work on"):
        DriverLease(store.storage, path, lapsed=20).take(said.append)
    assert len(said) == 1
    first.give_back()
    assert not store.storage.exists(path)
    DriverLease(store.storage, path).take().give_back()


def test_a_lease_that_is_not_renewed_lapses(tmp_path, store):
    path = f"{store.root}/driver.json"
    dead = {"driver": "x", "renewal": 7, "host": "gone", "pid": 1, "machine": "another"}
    store.storage.put(path, json.dumps(dead).encode())
    begun = time.monotonic()
    lease = DriverLease(store.storage, path, renewed=0.1, lapsed=1.0).take()
    assert time.monotonic() - begun > 1.0
    assert json.loads(store.storage.read(path))["driver"] == lease.token
    lease.give_back()


def test_a_lease_that_went_to_another_is_not_removed(tmp_path, store):
    path = f"{store.root}/driver.json"
    lease = DriverLease(store.storage, path, renewed=60).take()
    store.storage.put(path, json.dumps({"driver": "other"}).encode())
    lease.give_back()
    assert json.loads(store.storage.read(path)) == {"driver": "other"}


def test_a_killed_process_of_this_machine_is_not_waited_for(tmp_path):
    store = Store(str(tmp_path / "store"))
    path = f"{store.root}/driver.json"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.root, path],
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.kill()
    process.communicate()
    assert store.storage.exists(path)
    said = []
    DriverLease(store.storage, path).take(said.append).give_back()
    assert said == []


def test_open_ledger_restores_and_gives_the_lease_back(tmp_path, store, begin):
    begin(tmp_path / "a" / "mine", store)[0].append("retry", key="first")
    said = []
    with open_ledger(tmp_path / "b" / "mine", store, said.append) as (ledger, stored):
        assert [event["key"] for event in ledger.events] == ["first"]
        assert store.storage.exists(f"{store.root}/sweeps/mine/driver.json")
    assert said == [f"{stored.place}: 1 events of this sweep taken over"]
    assert not store.storage.exists(f"{store.root}/sweeps/mine/driver.json")
