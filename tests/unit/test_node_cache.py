"""The node-local cache: a limit that holds, content that is checked, several processes at once."""

import hashlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from trainables.errors import UserError
from trainables.node_cache import NodeCache, cache_limit_gb, set_limit_gb
from trainables.store import Store, StoreError

ROOT = Path(__file__).resolve().parents[2]


def content(number: int, num_bytes: int = 1000) -> tuple[str, bytes]:
    data = number.to_bytes(4, "big") * (num_bytes // 4)
    return hashlib.sha256(data).hexdigest(), data


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = NodeCache(tmp_path, 3500)
    pairs = [content(number) for number in range(5)]
    for age, (name, data) in enumerate(pairs[:3]):
        cache.put(name, data)
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    assert cache.get(pairs[0][0]) == pairs[0][1]  # used now
    for name, data in pairs[3:]:
        cache.put(name, data)
    assert kept(tmp_path) == {pairs[n][0] for n in (0, 3, 4)}
    assert cache.get(pairs[1][0]) is None


def test_more_than_the_limit_is_not_kept_and_drives_nothing_out(tmp_path):
    cache = NodeCache(tmp_path, 1500)
    cache.put(*content(1))
    cache.put(*content(2, 2000))
    assert kept(tmp_path) == {content(1)[0]}


def test_a_damaged_copy_is_no_copy(tmp_path):
    cache = NodeCache(tmp_path, 5000)
    name, data = content(1)
    cache.put(name, data)
    (tmp_path / name).write_bytes(data[:-1])
    assert cache.get(name) is None
    assert kept(tmp_path) == set()


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / ".0123.draft").write_bytes(b"x" * 4000)
    NodeCache(tmp_path, 5000).put(*content(1))
    assert kept(tmp_path) == {content(1)[0]}


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    cache = NodeCache(tmp_path / "file" / "below", 5000)
    cache.put(*content(1))
    assert cache.get(content(1)[0]) is None


USER = """
import hashlib, random, sys
from pathlib import Path
from trainables.node_cache import NodeCache
cache, draw = NodeCache(Path(sys.argv[1]), 20_000), random.Random(int(sys.argv[2]))
hits = 0
for _ in range(400):
    data = draw.randrange(40).to_bytes(4, "big") * 250
    name = hashlib.sha256(data).hexdigest()
    found = cache.get(name)
    assert found in (None, data)
    hits += found is not None
    if found is None:
        cache.put(name, data)
print(hits)
"""


def test_several_processes_at_once(tmp_path):
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(tmp_path / "cache"), str(number)],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for number in range(4)
    ]  # fmt: skip
    hits = [int(user.communicate(timeout=100)[0]) for user in users]
    assert [user.returncode for user in users] == [0] * 4
    assert min(hits) > 50  # 20 of 40 are kept
    files = [path for path in (tmp_path / "cache").iterdir() if path.name != ".lock"]
    assert 0 < sum(path.stat().st_size for path in files) <= 20_000


def test_the_limit_is_of_the_environment_or_the_option(monkeypatch):
    monkeypatch.delenv("FATEFRONT_CACHE_GB", raising=False)
    assert cache_limit_gb() == 10
    monkeypatch.setenv("FATEFRONT_CACHE_GB", "0.5")
    assert cache_limit_gb() == 0.5
    set_limit_gb(2)
    assert cache_limit_gb() == 2
    for wrong in ("-1", "much", "inf", "nan"):
        monkeypatch.setenv("FATEFRONT_CACHE_GB", wrong)
        with pytest.raises(UserError, match=f"FATEFRONT_CACHE_GB must be .* but got '{wrong}'"):
            cache_limit_gb()
    with pytest.raises(UserError, match="--cache-gb must be at least 0 but got -1"):
        set_limit_gb(-1)


def test_a_remote_store_reads_from_it_and_a_local_one_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FATEFRONT_CACHE_GB", raising=False)
    assert Store(str(tmp_path / "store")).cache is None
    store, key = Store(f"memory://{uuid.uuid4().hex}"), "ab" + "0" * 30
    files = store.commit(key, {"weights": b"w" * 100, "test.npz": b"sealed"}, {})["files"]
    for entry in files.values():
        store.storage.remove(f"{store.folder(key)}/{entry['path']}")
    assert store.read(key, "weights") == b"w" * 100
    with pytest.raises(StoreError, match=r"'test.npz' .* is gone"):
        store.read(key, "test.npz")
