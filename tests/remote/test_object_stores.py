"""The store on servers that speak S3 and Google Cloud Storage promises what a folder does."""

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from servers import S3_SETTINGS, gcs_server, s3_server
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.ledger.records import Ledger
from orchestrator.ledger.storage_probe import probe
from orchestrator.ledger.stored_ledger import StoredLedger
from trainables.errors import UserError
from trainables.storage import Storage, StorageError, reason
from trainables.store import GoneError, Store

FILES = {"weights.safetensors": os.urandom(1000), "train.npz": b"train", "test.npz": b"sealed"}


@pytest.fixture(scope="module", params=["s3", "gs"])
def uri(request, tmp_path_factory):
    """A prefix on each; the clients find the servers by the environment, as a user's do."""
    server = s3_server if request.param == "s3" else gcs_server
    with (
        server(tmp_path_factory.mktemp(request.param)) as settings,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        yield f"{request.param}://bucket/prefix"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))


def test_nodes_are_whole_and_the_first_commit_wins(uri):
    store, key = Store(uri), "ab" + "1" * 30
    assert store.node(key) is None
    first = store.commit(key, FILES, {"by": "first"})
    assert store.commit(key, dict.fromkeys(FILES, b"other"), {"by": "second"}) == first
    assert {name: store.read(key, name) for name in FILES} == FILES
    left = store.storage.sizes(store.folder(key))
    assert len(left) == len(FILES) + 1
    assert sum("/sealed/" in path for path in left) == 1


def test_an_answer_that_was_lost_does_not_cost_the_node(uri, monkeypatch):
    """The put of node.json arrives, its answer does not, the client tries again and is refused."""
    store, key = Store(uri), "ab" + "2" * 30
    pipe_file = store.fs.pipe_file

    def lossy(path, data, **options):
        pipe_file(path, data, **options)
        if options.get("mode") == "create":
            monkeypatch.undo()
            raise TimeoutError("the answer was lost")

    monkeypatch.setenv("FATEFRONT_CACHE_GB", "0")
    monkeypatch.setattr(store.fs, "pipe_file", lossy)
    document = store.commit(key, FILES, {"by": "me"})
    assert document["by"] == "me"
    assert {name: Store(uri).read(key, name) for name in FILES} == FILES


NUM_NAMES = 15


def create(arguments):
    uri, name, together = arguments
    storage = Storage(uri)
    storage.exists(f"{storage.root}/race")
    wins = []
    for number in range(NUM_NAMES):
        together.wait(60)  # all ask for the same name at the same moment
        wins.append(storage.put_if_absent(f"{storage.root}/race/{number}", name.encode()))
    return wins


@pytest.mark.slow
def test_of_several_writers_of_a_name_one_wins(uri):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(3, context) as pool:
        together = manager.Barrier(3)
        wins = list(pool.map(create, [(uri, name, together) for name in "abc"]))
    storage = Storage(uri)
    for number in range(NUM_NAMES):
        (winner,) = [name for name, own in zip("abc", wins, strict=True) if own[number]]
        assert storage.read(f"{storage.root}/race/{number}") == winner.encode()


def test_a_ledger_is_found_again_and_has_one_history(uri, tmp_path):
    manifest = {"sweep": "mine", "sweep_id": "0" * 16}
    first = Ledger(tmp_path / "a" / "mine").open()
    (first.folder / "manifest.json").write_text(json.dumps(manifest))
    storage = Storage(uri)
    StoredLedger(storage, first.folder).mirror(first, manifest)
    for number in range(30):
        first.append("retry", key=str(number))
    second = Ledger(tmp_path / "b" / "mine").open()
    stored = StoredLedger(storage, second.folder)
    assert stored.restore(second) == 30
    assert second.path.read_bytes() == first.path.read_bytes()
    stored.mirror(second, manifest)
    second.append("started", driver="b")
    with pytest.raises(UserError, match="another driver is at work"):
        first.append("retry", key="30")
    first.close()
    second.close()


def test_files_of_nodes_are_kept_here_and_nothing_sealed(uri, tmp_path):
    store, key = Store(uri), "ab" + "3" * 30
    files = store.commit(key, FILES, {})["files"]
    kept = {path.name for path in (tmp_path / "cache" / "nodes").iterdir()} - {".lock"}
    assert kept == {files[name]["sha256"] for name in ("weights.safetensors", "train.npz")}
    for name in FILES:
        store.storage.remove(f"{store.folder(key)}/{files[name]['path']}")
    assert store.read(key, "weights.safetensors") == FILES["weights.safetensors"]
    with pytest.raises(GoneError):
        store.read(key, "test.npz")


def test_a_store_in_order_and_what_is_wrong_with_others(uri):
    assert probe(Storage(uri, patience=0.0)) is None
    nowhere = uri.replace("bucket", "nobucket")
    line = probe(Storage(nowhere, patience=0.0))
    assert line is not None
    assert line.startswith(f"cannot write: {nowhere}: ")


@pytest.mark.slow
def test_the_command_says_in_one_line_that_a_bucket_is_missing(uri, tmp_path):
    nowhere = uri.replace("bucket", "nobucket")
    result = CliRunner().invoke(
        app, ["run", "quickstart", "--out", str(tmp_path / "s"), "--store", nowhere]
    )
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: --store {nowhere}: cannot write: ")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_server_that_is_away_is_waited_for_and_then_one_line(monkeypatch):
    for name, value in S3_SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    storage = Storage("s3://away/prefix", patience=0.0)
    storage.fs.retries = 1
    with pytest.raises(StorageError) as away:
        storage.read("away/prefix/x")
    assert reason(away.value).startswith("s3://away/prefix: Could not connect to the endpoint")
