"""A sweep in MLflow's own pages, as `fatefront ui` opens them, in a real browser: the front as a
chart, a filter, Compare with its scatter plot; then Ctrl-C, and nothing is left.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from tiny_sweep import run_tiny

from orchestrator.ledger.records import Ledger, load_records
from search_spaces.sweep_spec import Search

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60_000
"""Milliseconds that a page may take on a busy machine."""


@dataclass
class Ui:
    """A running `fatefront ui`."""

    process: subprocess.Popen
    log: Path

    def line(self, name: str) -> str:
        """What stands behind a name that it has said."""
        found = re.search(rf"^{name}\s+(\S+)$", self.log.read_text(), re.MULTILINE)
        assert found, self.log.read_text()
        return found.group(1)

    def wait(self, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while "Ctrl-C ends it" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)


def start(folder: Path, *options: str) -> Ui:
    log = folder.parent / f"ui{len(options)}.out"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "ui", str(folder), "--no-open", *options],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    return Ui(process, log)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    base = tmp_path_factory.mktemp("mlflow")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    search = Search(sampler="grid", max_f1_loss=None)
    run_tiny(base / "sweep", base / "cache", iterations=2, search=search)
    ledger = Ledger(base / "sweep").open()
    ledger.append("started")
    ledger.append("finished", stopped=None)
    ledger.close()
    yield base / "sweep"
    patch.undo()
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def ui(sweep):
    """Its usual port is taken (by us, if by nobody else): it picks another one."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 5000))
            taken.listen()
        except OSError:
            pass
        running = start(sweep, "--optuna")
        running.wait()
    started = psutil.Process(running.process.pid).children(recursive=True)
    yield running
    assert len(started) >= 2  # both servers
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert running.log.read_text().splitlines()[-1] == "ended"
    left = [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert left == []


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


def keep_picture(page, name):
    """Where FATEFRONT_SCREENSHOTS names a folder, for people to look at."""
    folder = os.environ.get("FATEFRONT_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def configurations(sweep) -> set[str]:
    return {record["trial"]["label"] for record in load_records(sweep).values()}


def rows(page) -> set[str]:
    """Names of the runs that the table shows."""
    names = page.locator(".ag-pinned-left-cols-container a, .ag-center-cols-container a")
    found = {name.strip() for name in names.all_inner_texts()}
    return {name for name in found if "vanilla" in name}


def until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_port_that_is_taken_is_passed_over_and_said(ui):
    port = int(ui.line("front:").split(":")[2].partition("/")[0])
    assert port > 5000
    assert f"port 5000 is taken, {port} is used" in ui.log.read_text()


def test_the_front_opens_as_a_chart_with_every_configuration(ui, page, sweep):
    page.goto(ui.line("front:"))
    points = page.locator(".scatterlayer .point")
    points.first.wait_for()
    until(lambda: points.count() == len(configurations(sweep)))
    titles = page.locator(".xtitle, .ytitle").all_text_contents()
    assert {"f1", "fate_eodd_hardt"} <= set(titles)
    keep_picture(page, "mlflow-front")


def test_the_table_shows_configurations_and_what_people_compare_first(ui, page, sweep):
    page.goto(ui.line("table:"))
    page.get_by_text("vanilla · snnl 10 % · n=2 · 2 seeds").first.wait_for()
    assert len(rows(page)) == len(configurations(sweep))
    columns = ["attributes.`Run Name`", "metrics.`fate_eodd_hardt`", "metrics.`f1`"]
    heads = [page.locator(f".ag-header-cell[col-id='{name}']") for name in columns]
    places = [head.bounding_box()["x"] for head in heads]
    assert places == sorted(places)
    assert places[-1] < 1100  # before the edge of the table
    keep_picture(page, "mlflow-table")


def test_a_filter_then_compare_finds_the_scatter_of_fate_and_f1(ui, page, sweep):
    page.goto(ui.line("table:"))
    page.get_by_text("vanilla · snnl 10 % · n=2 · 2 seeds").first.wait_for()
    box = page.locator('input[placeholder*="metrics.rmse"]')
    box.fill("tags.level = 'trial' and tags.criterion = 'snnl' and metrics.fate_eodd > -99")
    box.press("Enter")
    records = load_records(sweep).values()
    wanted = {
        f"vanilla · snnl {round(100 * r['trial']['ratio'])} % · n={r['trial']['n']} "
        f"· seed {r['trial']['seed']}"
        for r in records
        if r["trial"]["criterion"] == "snnl" and r["fate"]["fate_eodd"] is not None
    }
    assert len(wanted) >= 4
    until(lambda: rows(page) == wanted)
    keep_picture(page, "mlflow-filtered")
    for _ in range(3):
        page.get_by_role("checkbox", name=re.compile("unchecked")).first.click()
    page.get_by_role("button", name="Compare").first.click()
    page.get_by_role("tab", name="Scatter Plot").click()
    for axis, metric in (("x", "f1"), ("y", "fate_eodd_hardt")):
        page.locator(f"#{axis}-axis-selector").click()
        page.get_by_role("option", name=metric, exact=True).first.click()
    titles = page.locator(".xtitle, .ytitle")
    until(lambda: set(titles.all_text_contents()) == {"f1", "fate_eodd_hardt"})
    # drawn on a canvas (WebGL), so the figures are asked of the chart itself
    plot = page.locator(".js-plotly-plot:visible").first
    (drawn,) = plot.evaluate("e => e.data.map(t => [Array.from(t.x), Array.from(t.y)])")
    points = set(zip(*drawn, strict=True))
    ours = {
        (r["result"]["metrics"]["validation"]["f1"], r["fate"]["fate_eodd_hardt"])
        for r in records
        if r["trial"]["criterion"] == "snnl" and r["fate"]["fate_eodd"] is not None
    }
    assert len(drawn[0]) == 3
    assert points <= ours
    named = {name for name in wanted if page.get_by_text(name, exact=True).count()}
    assert len(named) == 3  # the runs compared are ours, by name
    keep_picture(page, "mlflow-compare")


def test_the_sweep_s_run_carries_description_and_report(ui, page):
    page.goto(ui.line("sweep:"))
    page.get_by_role("heading", name="tiny").wait_for()
    page.get_by_text("Description").first.wait_for()
    page.get_by_role("columnheader", name="on front").wait_for()  # the front as a table
    assert page.get_by_text("Model training").count()  # and not MLflow's pages for chats
    keep_picture(page, "mlflow-sweep")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report.html").first.click()
    report = page.frame_locator("iframe").last
    report.get_by_role("heading", name="Report of tiny").wait_for()
    keep_picture(page, "mlflow-report")


def test_optuna_s_dashboard_has_the_study(ui, page):
    base = ui.line("Optuna:").partition("/dashboard")[0]
    with urllib.request.urlopen(f"{base}/api/studies/1") as answer:
        study = json.load(answer)
    assert study["name"] == "tiny"
    assert {trial["state"] for trial in study["trials"]} == {"Complete"}
    page.goto(ui.line("Optuna:"))
    page.get_by_text("Pareto Front").first.wait_for()
    page.get_by_text("fate_eodd_hardt").first.wait_for()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    keep_picture(page, "optuna-study")


def test_a_port_that_was_asked_for_and_is_taken_is_refused(sweep, ui):
    port = ui.line("front:").split(":")[2].partition("/")[0]
    second = start(sweep.parent / "sweep", "--port", port)
    assert second.process.wait(120) == 2
    assert f"--port {port}: address already in use" in second.log.read_text()
