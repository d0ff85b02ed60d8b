"""The report in a real browser: hover, click, keyboard, both colour schemes, print; no network."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from tiny_sweep import run_tiny

from orchestrator.fronts.export import export_sweep
from orchestrator.fronts.front import sweep_front
from orchestrator.ledger.manifest import read_sweep
from orchestrator.ledger.records import load_records
from orchestrator.report.page import write_report

pytestmark = pytest.mark.slow
FRONT = 'section#front svg.follows [data-c="{}"]'


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    base = tmp_path_factory.mktemp("browser")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    run_tiny(base / "sweep", base / "cache", iterations=2)
    write_report(base / "sweep")
    yield base / "sweep"
    patch.undo()
    shutil.rmtree(base)


@pytest.fixture
def opened(chromium, sweep):
    """The report, and everything that the browser complained of or asked the network for."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(m.text) if m.type != "log" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: problems.append(r.url) if r.url.startswith("http") else None)
    page.goto((sweep / "report.html").as_uri())
    yield page, problems
    keep_picture(page, "report")
    context.close()
    assert problems == []


def keep_picture(page, name):
    """Where FATEFRONT_SCREENSHOTS names a folder, for people to look at."""
    folder = os.environ.get("FATEFRONT_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def deepest(sweep):
    """A configuration with two iterations."""
    front = sweep_front(load_records(sweep), read_sweep(sweep))
    points = [m.aggregate for m in (*front.members, *front.dominated)]
    return next(p for p in points if p.trial["n"] == 2 and p.trial["role"] == "treatment")


def test_pointing_shows_the_figures(opened, sweep):
    page, _ = opened
    point = deepest(sweep)
    page.locator(FRONT.format(point.configuration)).hover()
    tip = page.locator("#tip")
    assert tip.is_visible()
    told = tip.inner_text()
    assert told.splitlines()[0] == point.trial["label"]
    assert f"F1 {point.figures['f1']:.3f}" in told
    assert f"seed {point.seeds[0]}" in told
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    page.mouse.move(2, 2)
    assert tip.is_hidden()


def test_a_click_follows_the_chain(opened, sweep):
    page, _ = opened
    point = deepest(sweep)
    panel = page.locator("#chosen")
    assert panel.is_hidden()
    page.locator(FRONT.format(point.configuration)).click()
    rows = panel.locator("tbody tr")
    assert rows.count() == 3  # the root, then both iterations
    label = point.trial["label"]
    assert [rows.nth(i).locator("th").inner_text() for i in range(3)] == [
        "vanilla", label.replace("x 2", "x 1"), label,
    ]  # fmt: skip
    assert panel.locator("tr.chosen-row th").inner_text() == label
    assert page.locator("polyline.chain").count() == 1
    line = page.locator("polyline.chain").get_attribute("points").split()
    marks = [page.locator("section#front .in-chain").nth(i) for i in range(3)]
    places = {f"{m.get_attribute('data-x')},{m.get_attribute('data-y')}" for m in marks}
    assert set(line) == places
    assert page.url.endswith(f"#chain-{point.configuration}")
    page.reload()  # the address leads there again
    assert panel.locator("tr.chosen-row th").inner_text() == label
    panel.get_by_role("button").click()
    assert panel.is_hidden()
    assert page.locator("polyline.chain").count() == 0


def test_the_keyboard_reaches_every_mark_and_one_stop_is_a_chart(opened):
    page, _ = opened
    marks = page.locator("section#front svg.follows [data-c]")
    stops = page.locator('section#front svg.follows [data-c][tabindex="0"]')
    assert stops.count() == 1
    page.locator("section#front svg.follows").evaluate(
        "svg => svg.querySelector('[data-c]').focus()"
    )
    seen = []
    for _ in range(marks.count()):
        seen.append(page.evaluate("document.activeElement.dataset.c"))
        assert page.locator("#tip").is_visible()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')")
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) == marks.count()
    assert page.evaluate("document.activeElement.dataset.c") == seen[0]  # around
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert page.locator("#chosen").is_visible()
    page.keyboard.press("Escape")  # the tip
    page.keyboard.press("Escape")  # the chain
    assert page.locator("#chosen").is_hidden()


def colours(page):
    script = "getComputedStyle(document.body)"
    return page.evaluate(f"[{script}.backgroundColor, {script}.color]")


def test_both_colour_schemes_and_print(opened):
    page, _ = opened
    light = colours(page)
    page.emulate_media(color_scheme="dark")
    dark = colours(page)
    keep_picture(page, "report-dark")
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.emulate_media(media="print", color_scheme="dark")  # ink on paper whatever the screen
    assert colours(page) == light
    assert page.locator("nav").is_hidden()
    assert page.pdf().startswith(b"%PDF-")
    assert page.locator("details[open]").count() == 0  # closed again


def test_no_word_of_a_chart_is_cut(opened):
    page, _ = opened
    cut = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(e => {"
        " const own = e.getBoundingClientRect(), all = e.ownerSVGElement.getBoundingClientRect();"
        " return own.width && (own.left < all.left - 1 || own.right > all.right + 1);"
        "}).map(e => e.textContent)"
    )
    assert cut == []


def test_nothing_is_wider_than_a_telephone(chromium, sweep):
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto((sweep / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_without_scripts_the_figures_are_there(chromium, sweep):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((sweep / "report.html").as_uri())
    assert page.locator("section#front svg.follows [data-c]").count() > 3
    assert deepest(sweep).trial["label"] in page.locator("section#effects").inner_text()
    context.close()


def test_the_exported_page_follows_chains_too(chromium, sweep, tmp_path):
    export_sweep(sweep, tmp_path / "out", open_test=False)
    page = chromium.new_page()
    page.goto((tmp_path / "out/front.html").as_uri())
    page.locator(f'svg.follows [data-c="{deepest(sweep).configuration}"]').click()
    assert page.locator("#chosen tbody tr").count() == 3
    page.close()


def test_no_column_of_the_front_is_cut_at_1300_pixels(chromium, sweep, tmp_path):
    export_sweep(sweep, tmp_path / "front")
    page = chromium.new_page(viewport={"width": 1300, "height": 900})
    page.goto((tmp_path / "front" / "front.html").as_uri())
    widths = page.evaluate(
        "[...document.querySelectorAll('.wide')].map(e => [e.scrollWidth, e.clientWidth])"
    )
    assert len(widths) > 1
    assert all(content <= room for content, room in widths), widths
    page.close()
