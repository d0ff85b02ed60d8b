"""Commits on a file server whose answers get lost: the client sends a link or a rename again, and
the second is refused by what the first has done.
"""

import errno
import os
from pathlib import Path

import pytest

from trainables.storage import write_whole
from trainables.store import Store

KEY = "ab" + "0" * 30
FILES = {"weights.safetensors": b"weights", "train.npz": b"train", "test.npz": b"sealed test"}


@pytest.fixture
def lose_answers(monkeypatch):
    """Links and renames are done, and answered by ``error``; returns how many were."""
    lost = []

    def lose(name, error):
        real = getattr(os, name)

        def done_but_refused(source, target, *args, **options):
            real(source, target, *args, **options)
            lost.append(target)
            raise OSError(error, os.strerror(error), source, None, target)

        monkeypatch.setattr(os, name, done_but_refused)
        return lost

    return lose


@pytest.mark.parametrize("error", [errno.EEXIST, errno.EIO, errno.ESTALE])
def test_a_link_whose_answer_is_lost_is_our_commit(tmp_path, lose_answers, error):
    store = Store(str(tmp_path / "store"))
    lost = lose_answers("link", error)
    document = store.commit(KEY, FILES, {"by": "us"})
    assert len(lost) == 1
    assert document["by"] == "us"
    assert store.node(KEY) == document
    assert {name: store.read(KEY, name) for name in FILES} == FILES
    assert store.remove_abandoned(KEY) == 0
    assert not list(Path(store.folder(KEY)).rglob(".*"))


@pytest.mark.parametrize("error", [errno.EEXIST, errno.EIO, errno.ESTALE])
def test_a_node_that_is_there_is_never_overwritten(tmp_path, lose_answers, monkeypatch, error):
    """Refused by another writer's node, whatever the error is called."""
    store = Store(str(tmp_path / "store"))
    first = store.commit(KEY, FILES, {"by": "the first"})

    def refused(source, target, *args, **options):
        raise OSError(error, os.strerror(error), source, None, target)

    monkeypatch.setattr(os, "link", refused)
    other = {name: content + b" of another" for name, content in FILES.items()}
    assert store.commit(KEY, other, {"by": "the second"}) == first
    assert {name: store.read(KEY, name) for name in FILES} == FILES
    assert store.remove_abandoned(KEY) == 0


def test_a_rename_whose_answer_is_lost_has_written_the_file(tmp_path, lose_answers):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"old")
    lost = lose_answers("replace", errno.ENOENT)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert len(lost) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.yaml"]
    store = Store(str(tmp_path / "store"))
    assert store.commit(KEY, FILES, {"by": "us"})["by"] == "us"
    assert {name: store.read(KEY, name) for name in FILES} == FILES
    assert len(lost) == 1 + len(FILES)


def test_a_rename_that_was_not_done_is_an_error(tmp_path, monkeypatch):
    """The same error, and the file is the old one, or another's."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"old")

    def not_done(source, target):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source, None, target)

    monkeypatch.setattr(os, "replace", not_done)
    with pytest.raises(OSError, match=r"sweep\.yaml"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.yaml"]
