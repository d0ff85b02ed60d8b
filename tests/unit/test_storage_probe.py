"""What is found out about a store before the first trial, in one line."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from orchestrator.ledger.storage_probe import probe, probe_as_node
from trainables.storage import Storage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def storage():
    return Storage(f"memory://{uuid.uuid4().hex}", patience=0.0)


def test_a_store_in_order_is_left_as_it_was(storage, tmp_path):
    for one in (storage, Storage(str(tmp_path))):
        assert probe(one) is None
        assert one.sizes(one.root) == {}


def test_a_store_that_overwrites_is_refused(storage, monkeypatch):
    """As servers do that do not know conditional puts."""
    pipe_file = storage.fs.pipe_file
    monkeypatch.setattr(storage.fs, "pipe_file", lambda path, data, mode="": pipe_file(path, data))
    assert "no conditional put" in probe(storage)


@pytest.mark.parametrize(
    ("method", "doing"), [("pipe_file", "write"), ("cat_file", "read"), ("rm_file", "delete")]
)
def test_what_is_not_allowed_is_named(storage, monkeypatch, method, doing):
    def refuse(*_, **__):
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(storage.fs, method, refuse)
    line = probe(storage)
    assert line is not None
    assert line.endswith("Access Denied")
    assert doing in line or method == "cat_file"  # read where the second write is compared


def test_a_node_that_has_another_folder_of_that_name_is_found(tmp_path):
    """The driver's file is not there: the folder is not shared."""
    line = probe_as_node(str(tmp_path / "shared"), str(tmp_path / "shared/probes/x"), "n1")
    assert "does not see what the driver wrote" in line
    storage = Storage(str(tmp_path / "shared"))
    storage.put(f"{storage.root}/probes/x-driver", b"")
    assert probe_as_node(storage.uri, f"{storage.root}/probes/x", "n1") == ""
    assert storage.exists(f"{storage.root}/probes/x-n1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    assert probe(Storage(str(tmp_path))) == "cannot write: Permission denied"


WITHOUT = """
import sys
module, uri = sys.argv[1:]
sys.modules[module] = None  # as if it were not installed
from trainables.errors import UserError
from trainables.storage import Storage
try:
    Storage(uri)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(("uri", "extra", "module"), [
    ("s3://b/p", "s3", "s3fs"), ("gs://b/p", "gcs", "gcsfs"),
])  # fmt: skip
def test_a_missing_extra_is_named(uri, extra, module):
    command = [sys.executable, "-c", WITHOUT, module, uri]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    expected = f"needs a package that is not installed: pip install 'fatefront[{extra}]'"
    assert done.stdout == f"{uri}: {expected}\n"
