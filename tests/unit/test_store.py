"""Nodes are whole or absent: races, kills and damage, with real processes and files."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from trainables.store import Store, StoreError, node_text, parse_node

ROOT = Path(__file__).resolve().parents[2]
KEY = "ab" + "0" * 30
FILES = {"weights.safetensors": b"weights", "train.npz": b"train", "test.npz": b"sealed test"}

WRITER = """
import sys, time
from pathlib import Path
from trainables.store import Store
folder, name, go, num_bytes, num_keys = sys.argv[1:]
store = Store(folder)
names = ("weights", "train.npz", "test.npz")
content = {f: f"{name} {f} ".encode() * int(num_bytes) for f in names}
print("ready", flush=True)
while not Path(go).exists():
    pass
for number in range(int(num_keys)):
    print(number, flush=True)
    store.commit(f"{number:032x}", content, {"by": name})
"""


def writer(folder: Path, name: str, go: Path, num_bytes: int, num_keys: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(go), str(num_bytes), str(num_keys)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(params=["folder", "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """The same promises on a local folder and on an object store; none is kept on this machine."""
    monkeypatch.setenv("FATEFRONT_CACHE_GB", "0")
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    return Store(f"memory://{uuid.uuid4().hex}")


def test_what_is_committed_is_read_back(store: Store) -> None:
    assert store.node(KEY) is None
    assert not store.has(KEY)
    document = store.commit(KEY, FILES, {"model": {"num_params": 3}})
    assert store.node(KEY) == document
    assert document["key"] == KEY
    assert document["model"] == {"num_params": 3}
    assert {name: store.read(KEY, name) for name in FILES} == FILES
    assert store.num_bytes(KEY) == sum(map(len, FILES.values()))


def test_the_test_split_lies_sealed(store: Store) -> None:
    entries = store.commit(KEY, FILES, {})["files"]
    assert [name for name, e in entries.items() if e["path"].startswith("sealed/")] == ["test.npz"]
    path = f"{store.folder(KEY)}/{entries['test.npz']['path']}"
    assert store.fs.cat_file(path) == b"sealed test"


def test_the_first_commit_wins_and_the_second_leaves_nothing(store: Store) -> None:
    first = store.commit(KEY, FILES, {"by": "first"})
    second = store.commit(KEY, dict.fromkeys(FILES, b"other"), {"by": "second"})
    assert second == first == store.node(KEY)
    assert store.read(KEY, "train.npz") == b"train"
    left = [path for path in store.fs.find(store.folder(KEY)) if not path.endswith("node.json")]
    assert len(left) == len(FILES)


@pytest.mark.parametrize("damage", ["flip", "truncate", "other"])
def test_damage_is_found_by_the_checksum(store: Store, damage: str) -> None:
    document = store.commit(KEY, FILES, {})
    path = f"{store.folder(KEY)}/{document['files']['weights.safetensors']['path']}"
    store.fs.pipe_file(path, {"flip": b"weighus", "truncate": b"wei", "other": b""}[damage])
    with pytest.raises(StoreError, match=f"'weights.safetensors' of node {KEY} is damaged"):
        store.read(KEY, "weights.safetensors")
    assert store.read(KEY, "train.npz") == b"train"  # the others are still good


def test_a_file_that_is_gone_is_said_to_be_gone(store: Store) -> None:
    document = store.commit(KEY, FILES, {})
    store.fs.rm_file(f"{store.folder(KEY)}/{document['files']['train.npz']['path']}")
    with pytest.raises(StoreError, match=r"'train.npz' of node .* is gone"):
        store.read(KEY, "train.npz")
    assert store.has(KEY)  # its record stays valid


def test_files_and_nodes_that_never_were(store: Store) -> None:
    with pytest.raises(StoreError, match="has no file"):
        store.read(KEY, "train.npz")
    store.commit(KEY, FILES, {})
    with pytest.raises(StoreError, match=r"has no file 'masks.safetensors'"):
        store.read(KEY, "masks.safetensors")


def test_an_attempt_without_node_json_is_invisible_and_does_not_disturb(store: Store) -> None:
    if store.is_local:
        Path(store.folder(KEY), "0123456789ab").mkdir(parents=True)
    store.fs.pipe_file(f"{store.folder(KEY)}/0123456789ab/train.npz", b"half")
    assert not store.has(KEY)
    store.commit(KEY, FILES, {})
    assert store.read(KEY, "train.npz") == b"train"


def test_what_killed_attempts_left_goes_only_beside_a_committed_node(store: Store) -> None:
    for path in ("0123456789ab/train.npz", "sealed/0123456789ab/test.npz"):
        if store.is_local:
            Path(store.folder(KEY), path).parent.mkdir(parents=True)
        store.fs.pipe_file(f"{store.folder(KEY)}/{path}", b"half")
    if store.is_local:
        Path(store.folder(KEY), "0123456789ab/.weights.0123abcd").write_bytes(b"draft")
    before = set(store.fs.find(store.folder(KEY)))
    assert store.remove_abandoned(KEY) == 0  # another sweep may be at it
    assert set(store.fs.find(store.folder(KEY))) == before
    store.commit(KEY, FILES, {})
    store.put_if_absent(f"{store.folder(KEY)}/counts-0123.json", b"{}")  # measured later
    assert store.remove_abandoned(KEY) == len(before)
    assert {name: store.read(KEY, name) for name in FILES} == FILES
    assert store.fs.cat_file(f"{store.folder(KEY)}/counts-0123.json") == b"{}"
    assert len(store.fs.find(store.folder(KEY))) == len(FILES) + 2
    assert store.remove_abandoned(KEY) == 0
    if store.is_local:
        assert not Path(store.folder(KEY), "0123456789ab").exists()


def test_a_full_disk_is_not_fuller_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put, names = store.storage.put, []

    def until_full(path: str, data: bytes) -> None:
        if len(names) == 2:
            raise OSError(28, "No space left on device")
        names.append(path)
        put(path, data)

    monkeypatch.setattr(store.storage, "put", until_full)
    with pytest.raises(OSError, match="No space left"):
        store.commit(KEY, FILES, {})
    assert len(names) == 2
    assert not store.has(KEY)
    left = list(store.fs.find(store.root)) if store.fs.exists(store.root) else []
    assert left == []


def test_a_document_that_is_not_json_is_never_committed(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.commit(KEY, FILES, {"loss": float("nan")})
    assert not store.has(KEY)


def test_an_unreadable_node_json_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Path(store.folder(KEY)).mkdir(parents=True)
    Path(store.folder(KEY), "node.json").write_text('{"key": ')
    assert not store.has(KEY)
    with pytest.raises(StoreError, match=r"unreadable node.json: remove it"):
        store.commit(KEY, FILES, {})


def assert_whole(store: Store, key: str) -> str:
    """Every file of the node is there, undamaged, and of one writer; returns the writer."""
    node = store.node(key)
    assert node is not None
    for name in node["files"]:
        assert store.read(key, name).startswith(f"{node['by']} {name} ".encode())
    return str(node["by"])


def test_two_processes_committing_the_same_keys_leave_one_node_each(tmp_path: Path) -> None:
    num_keys, go = 40, tmp_path / "go"
    both = [writer(tmp_path / "store", name, go, 1000, num_keys) for name in ("a", "b")]
    go.touch()
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = Store(str(tmp_path / "store"))
    for number in range(num_keys):
        key = f"{number:032x}"
        assert_whole(store, key)
        files = [path for path in Path(store.folder(key)).rglob("*") if path.is_file()]
        assert len(files) == 4  # three files of the winner and node.json; no draft


def test_a_killed_process_leaves_whole_nodes_or_none(tmp_path: Path) -> None:
    draw = random.Random(5)
    num_unfinished, num_whole = 0, 0
    go = tmp_path / "go"
    go.touch()
    for kill in range(10):
        folder = tmp_path / f"store{kill}"
        process = writer(folder, "killed", go, 100_000, 10_000)
        time.sleep(draw.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        started, _ = process.communicate(timeout=60)
        store = Store(str(folder))
        for line in started.split():
            key = f"{int(line):032x}"
            if store.has(key):
                assert_whole(store, key)
                num_whole += 1
            else:
                num_unfinished += any(Path(store.folder(key)).rglob("*"))
                store.commit(key, {"weights": b"again weights "}, {"by": "again"})
                assert assert_whole(store, key) == "again"
    assert num_whole > 0
    assert num_unfinished > 0  # some kills did fall into a commit


def test_put_if_absent_never_shows_half_a_file(store: Store) -> None:
    path = f"{store.root}/sweeps/x.json"
    assert store.put_if_absent(path, json.dumps({"one": 1}).encode())
    assert not store.put_if_absent(path, b"{}")
    assert json.loads(store.fs.cat_file(path)) == {"one": 1}
    assert len(store.fs.find(f"{store.root}/sweeps")) == 1


def test_every_flipped_bit_of_a_document_is_seen(tmp_path: Path) -> None:
    """A figure in it would else become another one, and no traceback either."""
    store = Store(str(tmp_path))
    document = {"classes": ["nv", "mel"], "model": {"flops": 1234567}, "plan": {}, "ü": "é"}
    store.commit(KEY, FILES, document | {"environment": {"torch": "2.14.1"}})
    path = Path(store.folder(KEY)) / "node.json"
    content = path.read_bytes()
    assert store.node(KEY) is not None
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            assert parse_node(KEY, bytes(changed)) is None, bytes(changed[place - 9 : place + 9])
    for length in range(len(content)):
        assert parse_node(KEY, content[:length]) is None


@pytest.mark.parametrize(
    "path", ["../../outside", "/outside", "a" * 12 + "/../outside", "a" * 12 + "/..", 7, None]
)
def test_a_document_that_names_a_file_elsewhere_is_none(tmp_path: Path, path: object) -> None:
    """Whoever can write into a shared store must not have others read or remove their files."""
    store, outside = Store(str(tmp_path / "store")), tmp_path / "outside"
    outside.write_bytes(b"mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    entry = {"path": path, "sha256": digest, "num_bytes": 4}
    place = Path(store.folder(KEY))
    place.mkdir(parents=True)
    if isinstance(path, str) and path.startswith("../"):
        entry["path"] = os.path.relpath(outside, place)
        assert (place / entry["path"]).read_bytes() == b"mine"
    if path == "/outside":
        entry["path"] = f"/{outside}"
    (place / "node.json").write_bytes(node_text({"key": KEY, "files": {"w": entry}}))
    assert store.node(KEY) is None
    assert not store.has(KEY)
    assert store.drop(KEY, ["w"]) == 0
    with pytest.raises(StoreError):
        store.read(KEY, "w")
    assert outside.read_bytes() == b"mine"


def test_a_node_in_the_place_of_another_is_none(tmp_path: Path) -> None:
    store, other = Store(str(tmp_path)), "cd" + "0" * 30
    store.commit(KEY, FILES, {})
    os.makedirs(os.path.dirname(store.folder(other)))
    os.rename(store.folder(KEY), store.folder(other))
    assert store.node(other) is None


def test_a_document_of_an_older_version_has_no_checksum(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit(KEY, FILES, {"model": {"flops": 1}})
    path = Path(store.folder(KEY)) / "node.json"
    document = json.loads(path.read_text())
    del document["sha256"]
    path.write_text(json.dumps(document))
    assert store.node(KEY) == document
