"""What every page is drawn with: scales, marks, tables, escaping; pictures, card and command."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_sweep import FakeSweep, fake_spec
from PIL import Image

from orchestrator.card import card_text, data_terms, licence_text
from orchestrator.command import run_command, without_users
from orchestrator.fronts.front import build_front
from orchestrator.fronts.static import latex_table, write_pictures
from orchestrator.pages.chains import chains
from orchestrator.pages.document import Cell, html_document, script_json, table
from orchestrator.pages.group_bars import BarRow, Valued, group_bars
from orchestrator.pages.svg import SHAPES, Scale, mark, scale_of
from orchestrator.run import RunOptions
from trainables.data.table import TableFile


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.31, 0.12, ["-0.3", "-0.2", "-0.1", "0", "0.1"]),
        (0.0, 3e6, ["0 M", "0.5 M", "1 M", "1.5 M", "2 M", "2.5 M", "3 M"]),
        (0.0, 0.0341, ["0", "0.005", "0.010", "0.015", "0.020", "0.025", "0.030"]),
    ],
)
def test_ticks_are_round(low, high, expected):
    scale = Scale(low, high, 0, 100)
    assert [scale.tick_text(tick) for tick in scale.ticks] == expected
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in scale.ticks)


def test_a_scale_holds_its_values_and_may_run_upwards():
    scale = scale_of([0.2, 0.8], 300, 0)
    assert 300 > scale(0.2) > scale(0.8) > 0
    assert scale(0.5) == pytest.approx(150)
    assert scale_of([0.4, 0.9], 0, 10, zero=True)(0.0) == 0
    assert 0 < scale_of([0.7], 0, 10)(0.7) < 10  # one value alone
    assert scale_of([], 0, 10).high > scale_of([], 0, 10).low


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_another_outline_around_its_place(shape):
    drawn = mark(shape, 50, 50, 5, "c-blue", key="k", name='a "name" & more')
    others = {mark(other, 50, 50, 5, "c-blue") for other in SHAPES if other != shape}
    assert mark(shape, 50, 50, 5, "c-blue") not in others
    assert 'data-c="k" data-x="50" data-y="50"' in drawn
    assert "a &quot;name&quot; &amp; more" in drawn


def test_bars_end_at_their_values():
    groups = {"light": Valued(0.5, 0.4, 0.6), "dark": Valued(None)}
    drawn = group_bars([BarRow("net", groups, "key")], list(groups), "F1")
    assert "net, light: 0.500 [0.400, 0.600]" in drawn
    assert "dark: not assessed" in drawn
    assert drawn.count('data-c="key"') == 1


def test_a_table_escapes_and_names_its_headings():
    found = table("c", ["a", Cell("<b>", "text")], [["<i>", Cell("x", marks=("knee",))]], "n")
    assert '<th scope="col" class="text">&lt;b&gt;</th>' in found
    assert '<th scope="row">&lt;i&gt;</th>' in found
    assert '<span class="mark-word">knee</span>' in found


def test_data_cannot_end_their_script():
    text = script_json({"a": "</script><script>alert(1)</script>\u2028"})
    assert "<" not in text
    assert json.loads(text)["a"].startswith("</script>")
    page = html_document("t", "<p></p>", version="1", trials={"trials": {}, "words": []})
    assert page.count("<script") == 2
    assert "default-src 'none'" in page
    assert "<script" not in html_document("t", "", version="1")


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    fake = FakeSweep(tmp_path_factory.mktemp("fake"))
    schedule = fake.run(fake_spec(seeds=(0, 1, 2)))
    yield build_front(schedule.records, ("fate_eodd_hardt", "f1")), schedule.records
    fake.ledger.close()


def test_chains_are_those_of_the_tree(front):
    _, records = front
    found = chains(records)
    trial = {r["trial"]["configuration"]: r["trial"] for r in records.values()}
    assert found.keys() == trial.keys()
    for name, chain in found.items():
        assert name in chain
        if trial[name]["n"]:
            assert [trial[k]["n"] for k in chain] == [0, 1, 2]
            assert {str(trial[k]["prune"]) for k in chain[1:]} == {str(trial[name]["prune"])}


def test_pictures_are_the_same_for_the_same_front(front, tmp_path):
    found, _ = front
    both = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_pictures(found, None, tmp_path / name)
        both.append([(tmp_path / name / f).read_bytes() for f in ("front.png", "front.pdf")])
    assert both[0] == both[1]
    assert both[0][1].startswith(b"%PDF-")
    with Image.open(tmp_path / "a/front.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[:2] == (1380, 2070)  # 300 dots an inch
    colours = {"treatment": (0, 114, 178), "control": (213, 94, 0), "baseline": (0, 158, 115)}
    for role, colour in colours.items():
        is_drawn = (pixels == colour).all(-1).sum() > 50
        assert is_drawn == any(m.aggregate.trial["role"] == role for m in found.members), role


def test_the_latex_table_numbers_the_members(front):
    found, records = front
    text = latex_table(found, records, None, "50 % & more")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")][1:]
    assert len(lines) == len(found.members)
    for number, (line, member) in enumerate(zip(lines, found.members, strict=True), start=1):
        assert line.startswith(f"{number} & ")
        assert f"{member.aggregate.figures['f1']:.3f}" in line
    assert r"\caption{50 \% \& more}" in text
    assert "{llrrrrrrrrl}" in text


def manifest(name, attribute):
    data = {
        "name": name, "attribute": attribute, "classes": ["nv", "mel"], "groups": ["a", "b"],
        "num_images": 7040, "num_unknown_group": 57, "image_size": 128, "warnings": [],
    }  # fmt: skip
    return {
        "sweep": "s", "fatefront": "1", "backbone": {"name": "resnet18"}, "data": data,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "non_commercial"),
    [("ham10000", True), ("isic2019", True), ("fitzpatrick17k", True), ("pad_ufes_20", False),
     ("synthetic", False), ("table", None)],
)  # fmt: skip
def test_the_card_says_what_the_models_are_not_for(name, non_commercial):
    assert data_terms(name).is_non_commercial is non_commercial
    card = card_text(manifest(name, "sex"), fake_spec())
    assert "not a medical device" in card
    assert "sex (as recorded)" in card
    assert "57 of 7,040 images have no known sex (as recorded)" in card
    assert ("non-commercial use only" in card) is (non_commercial is True)
    assert ("not known to fatefront" in card) is (non_commercial is None)
    text = licence_text(manifest(name, "sex"), fake_spec())
    assert data_terms(name).licence in text
    assert "resized" not in text  # the space's own images are drawn at their size
    of_table = fake_spec(data=TableFile.Config(path="t.csv", image_size=32, attribute="sex"))
    assert "resized and cropped to 32 pixels" in licence_text(manifest(name, "sex"), of_table)


def test_the_command_is_kept_without_passwords():
    options = RunOptions(
        space="quickstart", out=Path("runs/a b"), overrides=("seeds=[0, 1]",), trials=5,
        tracking_uri="https://me:secret@host:5000/x", retry_failed=True,
    )  # fmt: skip
    assert run_command(options) == (
        "fatefront run quickstart --out 'runs/a b' --trials 5 --tracking-uri "
        "https://host:5000/x --retry-failed --set 'seeds=[0, 1]'"
    )
    assert without_users("s3://bucket/a@b") == "s3://bucket/a@b"
    long = RunOptions(space="quickstart", overrides=("name=" + "x" * 3000,))
    assert run_command(long) is None
