"""Fetching: what the client is asked for, what is checked afterwards, the steps for a person.

Nothing here leaves the machine: a stand-in takes the client's place, a local server the tables'.
"""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.datasets import fetch as data_fetch
from orchestrator.datasets.fetch import fetch_data, fetch_table, find_client
from orchestrator.datasets.sources import SOURCES, TableFile
from trainables.data.ham10000 import HAM10000
from trainables.data.load import parse_data
from trainables.errors import UserError
from trainables.registry import datasets

STAND_IN = """#!{python}
import json, pathlib, sys
pathlib.Path({log!r}).write_text(json.dumps([sys.argv[1:], sys.stdin.read()]))
print("words of the client")
if {code}:
    sys.exit({code})
for name in {names}:
    (pathlib.Path(sys.argv[-1]) / (name + ".jpg")).write_bytes(b"pixels of " + name.encode())
"""
HAM = (
    "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    "HAM_0,ISIC_0,nv,histo,50.0,male,back\n"
    "HAM_1,ISIC_1,mel,histo,,female,face\n"
    "HAM_1,ISIC_2,mel,histo,60.0,female,face\n"
)
TRUTH = (
    "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
    "ISIC_0,1,0,0,0,0,0,0,0,0\nISIC_1_downsampled,0,1,0,0,0,0,0,0,0\n"
)
ISIC = "image,age_approx,anatom_site_general,lesion_id,sex\nISIC_0,,,,\nISIC_1_downsampled,,,,\n"


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Put a stand-in for ``isic`` on PATH; it writes what it was given into a file."""
    log, python = tmp_path / "asked.json", sys.executable

    def make(names: tuple[str, ...] = (), code: int = 0) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        text = STAND_IN.format(python=python, log=str(log), code=code, names=names)
        (folder / "isic").write_text(text)
        (folder / "isic").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return log

    monkeypatch.setattr(sys, "executable", str(tmp_path / "no/python"))  # not beside this Python
    return make


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder served on this machine; the sources' tables are looked for in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("no_proxy", "*")
    for name, source in list(SOURCES.items()):
        tables = tuple(replace(table, url=f"{url}/{table.name}") for table in source.tables)
        monkeypatch.setitem(SOURCES, name, replace(source, tables=tables))
    yield folder
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_ham10000_is_fetched_into_the_layout_that_is_read(tmp_path, client, served, capfd):
    log = client(("ISIC_0", "ISIC_1", "ISIC_2"))
    (served / "HAM10000_metadata.csv").write_text(HAM)
    document = fetch_data("ham10000", tmp_path / "data")
    images = tmp_path / "data/HAM10000_images"
    asked, typed = json.loads(log.read_text())
    assert asked == ["image", "download", "--collections", "66", str(images)]
    assert typed == ""
    assert document["command"][1:] == asked
    assert (document["num_images"], document["num_missing"], document["steps"]) == (3, 0, [])
    table = HAM10000.table(parse_data({"name": "ham10000", "root": str(tmp_path / "data")}))
    assert table.rows["path"].tolist() == [str(images / f"ISIC_{n}.jpg") for n in range(3)]
    printed = capfd.readouterr()
    assert printed.out == ""  # stdout is for the document
    assert "words of the client" in printed.err


def test_isic2019_names_its_downsampled_images_and_counts_what_did_not_come(
    tmp_path, client, served
):
    log = client(("ISIC_1",))
    (served / "ISIC_2019_Training_GroundTruth.csv").write_text(TRUTH)
    (served / "ISIC_2019_Training_Metadata.csv").write_text(ISIC)
    document = fetch_data("isic2019", tmp_path / "data", limit=5)
    images = tmp_path / "data/ISIC_2019_Training_Input"
    asked, _ = json.loads(log.read_text())
    assert asked == ["image", "download", "--collections", "65", "--limit", "5", str(images)]
    assert (document["num_images"], document["num_missing"]) == (1, 1)
    assert (images / "ISIC_1_downsampled.jpg").read_bytes() == b"pixels of ISIC_1"
    assert (images / "ISIC_1.jpg").exists()  # or the client would fetch it again
    source = datasets.get("isic2019")
    fields = {"name": "isic2019", "root": str(tmp_path / "data"), "missing_images": "skip"}
    rows = source.table(parse_data(fields)).rows
    assert rows["image_id"].tolist() == ["ISIC_1_downsampled"]
    assert fetch_data("isic2019", tmp_path / "data")["num_images"] == 1  # over what is there


def test_the_verb_prints_one_document_and_shows_it_to_people(tmp_path, client, served):
    client(("ISIC_0", "ISIC_1"))
    (served / "HAM10000_metadata.csv").write_text(HAM)
    arguments = ["data", "fetch", "ham10000", "--to", str(tmp_path / "data")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "2 images" in shown.stdout
    assert "1 of the table are not there" in shown.stdout
    assert "CC BY-NC 4.0" in shown.stdout
    assert f"{{name: ham10000, root: {tmp_path / 'data'}}}" in shown.stdout
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (document["fetched"], document["num_missing"]) == (True, 1)


def test_without_the_client_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"pip install 'fatefront\[isic\]'.*--steps"):
        fetch_data("isic2019", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_client_beside_this_python_comes_first(tmp_path, client, monkeypatch):
    client()
    assert find_client("isic2019") == str(tmp_path / "bin/isic")
    (tmp_path / "no").mkdir()
    shutil.copy(tmp_path / "bin/isic", tmp_path / "no/isic")
    assert find_client("isic2019") == str(tmp_path / "no/isic")


def test_a_client_that_fails_is_one_line(tmp_path, client, served):
    client(code=3)
    (served / "HAM10000_metadata.csv").write_text(HAM)
    with pytest.raises(UserError, match=r"--collections 66 .*exit code 3; .*goes on where"):
        fetch_data("ham10000", tmp_path / "data")
    (tmp_path / "bin/isic").write_text("#!/no/such/program\n")
    with pytest.raises(UserError, match=r"bin/isic.*No such file"):
        fetch_data("ham10000", tmp_path / "data")


def test_tables_come_whole_or_not_at_all(tmp_path, client, served, monkeypatch):
    client()
    with pytest.raises(UserError, match=r"metadata\.csv: HTTP Error 404.*browser from https://dat"):
        fetch_data("ham10000", tmp_path / "data")
    (served / "HAM10000_metadata.csv").write_text("<html>sign in</html>\n")
    with pytest.raises(UserError, match=r"is not the table HAM10000_metadata\.csv"):
        fetch_data("ham10000", tmp_path / "data")
    (served / "HAM10000_metadata.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"HAM10000_metadata\.csv"):
        fetch_data("ham10000", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["HAM10000_images"]
    monkeypatch.setattr(data_fetch, "TIMEOUT", 0.5)
    nowhere = TableFile("t.csv", "http://127.0.0.1:1/t.csv", ("a",))
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1/t\.csv"):
        fetch_table(nowhere, tmp_path / "t.csv", "https://page")
    (tmp_path / "t.csv").write_text("mine")
    fetch_table(nowhere, tmp_path / "t.csv", "https://page")  # what is there is left alone
    assert (tmp_path / "t.csv").read_text() == "mine"


@pytest.mark.parametrize("name", list(SOURCES))
def test_steps_name_page_licence_and_folder(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    document = fetch_data(name, tmp_path / "here", steps_only=True)
    text = "\n".join(document["steps"])
    assert SOURCES[name].page in text
    assert str(tmp_path / "here") in text
    assert f"{{name: {name}, root: {tmp_path / 'here'}}}" in text
    assert "CC BY" in document["licence"]
    assert (document["fetched"], document["command"], document["num_images"]) == (
        False, None, None,
    )  # fmt: skip
    assert not (tmp_path / "here").exists()
    assert name in datasets.names()
    shown = CliRunner().invoke(app, ["data", "fetch", name, "--steps"]).stdout
    assert shown.startswith(f"{name} is fetched by hand:\n1. Open https://")


def test_data_sets_that_must_be_asked_for_are_never_fetched(tmp_path, client):
    log = client()
    for name in ("fitzpatrick17k", "pad_ufes_20"):
        assert fetch_data(name, tmp_path / "data")["fetched"] is False
    assert not log.exists()


def test_an_unknown_name():
    with pytest.raises(UserError, match=r"'ham1000', did you mean 'ham10000'"):
        fetch_data("ham1000")
    with pytest.raises(UserError, match=r"known: ham10000, isic2019"):
        fetch_data("xyz")


@pytest.mark.skipif(
    shutil.which("isic") is None, reason="the ISIC client is not on PATH (pip install isic-cli)"
)
def test_the_real_client_has_the_options_that_are_used():
    command = ["isic", "--no-version-check", "image", "download", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for word in ("--collections", "--limit", "OUTDIR"):
        assert word in done.stdout
