"""The report of a real tiny sweep: figures as recorded, the test split sealed, one closed file."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from headless import picture
from PIL import Image
from tiny_sweep import copy_sweep, run_tiny

from orchestrator.fronts.front import sweep_front
from orchestrator.ledger.manifest import read_sweep
from orchestrator.ledger.records import load_records, read_events
from orchestrator.report.channels import pruned_steps
from orchestrator.report.facts import gather
from orchestrator.report.page import ReportOptions, write_report
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.portable import load_portable, save_portable
from trainables.pruning.excitation import excitation, most_exciting


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("report")
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    run_tiny(base / "sweep", base / "cache", iterations=2, prune=prune)
    yield base
    shutil.rmtree(base)


@pytest.fixture
def sweep(original, tmp_path, monkeypatch):
    """A copy, so that what one test opens is sealed in the next."""
    monkeypatch.setenv("FATEFRONT_CACHE", str(original / "cache"))
    folder = copy_sweep(original / "sweep", tmp_path / "sweep")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["store"] = str(folder / "store")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    yield folder
    shutil.rmtree(tmp_path)


class Reader(HTMLParser):
    """Sections with their cells, what is loaded from elsewhere, and names of links."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.elsewhere, self.ids, self.links = {}, [], set(), set()
        self._section, self._open = "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if "id" in found else set()
        for name in ("src", "href", "srcset", "data", "poster"):
            target = found.get(name)
            if target and target.startswith("#"):
                self.links.add(target[1:])
            elif target:
                self.elsewhere.append(target)
        if tag == "section" and found.get("id") != "chosen":
            self._section = found["id"]
        if tag in ("td", "th"):
            self.cells.setdefault(self._section, []).append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.cells[self._section][-1] += data


def written(folder, **options):
    document = write_report(folder, options=ReportOptions(**options))
    text = (folder / "report.html").read_text()
    assert document["bytes"] == len(text.encode()) < 5_000_000
    return document, text


def trials_of(text):
    (found,) = re.findall(r'id="trials">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)["trials"]


def openings(folder):
    return [e["keys"] for e in read_events(folder) if e["event"] == "test_opened"]


def test_every_section_is_there_and_nothing_is_loaded_from_elsewhere(sweep):
    document, text = written(sweep)
    reader = Reader(text)
    assert reader.elsewhere == []
    assert "url(" not in text
    assert "@import" not in text
    assert [s["missing"] for s in document["sections"]] == [None] * 13
    assert reader.links <= reader.ids
    assert {s["name"] for s in document["sections"]} <= reader.links
    assert openings(sweep) == []
    assert "The test split has not been read." in text


def test_figures_are_those_of_the_records(sweep):
    _, text = written(sweep)
    reader, records = Reader(text), load_records(sweep)
    front = sweep_front(records, read_sweep(sweep))
    for member in front.members:
        point = member.aggregate
        assert f"{point.figures['f1']:.3f} [" in " ".join(reader.cells["front"])
        for group in ("light", "dark"):
            values = [
                [
                    records[key]["result"]["metrics"]["validation"]["groups"][group]["f1"]
                    for key in (own, records[own]["compares_with"]["reference"])
                ]
                for own in point.keys
            ]
            mean = sum(own for own, _ in values) / len(values)
            change = sum(own - reference for own, reference in values) / len(values)
            assert any(cell.startswith(f"{mean:.3f} [") for cell in reader.cells["groups"])
            if abs(change) > 0.001:
                assert any(c.startswith(f"{change:+.3f}") for c in reader.cells["changes"])
    for point in (m.aggregate for m in front.members):
        if set(point.tags) == {"levelling down"}:
            assert "levelling down" in reader.cells["changes"]
    params = {records[k]["result"]["model"]["num_params"] for m in front.members
              for k in m.aggregate.keys}  # fmt: skip
    assert f"{min(params) / 1e6:,.2f} M" in reader.cells["costs"]


def test_each_difference_has_its_verdict(sweep):
    _, text = written(sweep)
    facts, cells = gather(sweep), Reader(text).cells["effects"]
    contrasts = [
        told
        for judged in facts.judgement.points.values()
        for _, told in judged.contrasts.values()
    ]
    assert len(contrasts) == 2  # both iterations against the one control
    for told in contrasts:
        assert told.text in cells


def test_a_click_leads_along_the_chain(sweep):
    _, text = written(sweep)
    trials, records = trials_of(text), load_records(sweep)
    by_key = {r["trial"]["configuration"]: r["trial"] for r in records.values()}
    deep = [name for name, trial in by_key.items() if trial["n"] == 2]
    assert len(deep) == 2  # the treated arm and its control
    for name in deep:
        chain = [by_key[k] for k in trials[name]["chain"]]
        assert [trial["n"] for trial in chain] == [0, 1, 2]
        assert chain[1]["prune"] == chain[2]["prune"] == by_key[name]["prune"]
    root = next(name for name, trial in by_key.items() if trial["n"] == 0)
    assert trials[root]["chain"] == [root]


def test_pruned_channels_and_epochs_come_from_the_nodes(sweep):
    _, text = written(sweep)
    section = text.split('<section id="channels">')[1].split("</section>")[0]
    panels = re.findall(r"(\d+) of (\d+) channels pruned", section)
    assert panels[0] in (("153", "512"), ("154", "512"))  # 30 %, rounded down or up
    num_marks = section.count('class="mark flat c-vermilion"')
    assert num_marks == sum(int(pruned) for pruned, _ in panels)
    curves = text.split('<section id="curves">')[1].split("</section>")[0]
    assert curves.count('class="line c-blue"') == curves.count("<figure>")  # one strong seed each


def test_the_test_split_is_an_opening_of_what_is_shown(sweep):
    facts = gather(sweep)
    document, text = written(sweep, split="test")
    (keys,) = openings(sweep)
    wanted = {k for name in facts.focus for k in facts.points[name].aggregate.keys}
    references = {facts.records[k]["compares_with"]["reference"] for k in wanted}
    assert set(keys) == wanted | references
    assert document["num_newly_opened"] == len(keys)
    assert "figures on the test split, members chosen on validation" in text
    again, _ = written(sweep, split="test")
    assert again["num_newly_opened"] == 0
    assert len(openings(sweep)) == 1
    opened, sealed = gather(sweep, "test"), facts
    name = facts.focus[0]
    assert opened.rows[name]["gaps"] != sealed.rows[name]["gaps"]
    assert [m.aggregate.configuration for m in opened.front.members] == [
        m.aggregate.configuration for m in sealed.front.members
    ]


def test_members_are_shown_by_the_seeds_that_confirmed_them(sweep):
    """The second seed plays the fresh one: the first alone selects."""
    path = sweep / "events.jsonl"
    path.write_text(path.read_text().replace('"seed":1}', '"seed":10000}'))
    members = set(gather(sweep).front.selected)
    written(sweep, split="test")
    (keys,) = openings(sweep)
    records = load_records(sweep)
    found = gather(sweep, "test")
    assert set(found.rows) == set(found.focus) >= members
    for name, row in found.rows.items():
        assert row["seeds"] == ([10_000] if name in members else [0])
        assert found.shown_judgement.points[name].intervals["f1"].low is not None
    for name in members:  # and each control of a member on the member's seeds
        node = records[found.points[name].aggregate.keys[0]]
        assert set(node["compares_with"].values()) <= set(keys)


def test_without_predictions_nothing_is_claimed(sweep):
    (sweep / "images.npz").unlink()
    document, text = written(sweep)
    missing = {s["name"]: s["missing"] for s in document["sections"]}
    assert "images.npz" in missing["membership"]
    section = text.split('<section id="effects">')[1].split("</section>")[0]
    assert "there are no verdicts" in section
    assert "distinguishable" not in section
    assert "No floors" in text


def test_nodes_that_are_gone_are_said_to_be(sweep):
    for path in (sweep / "store").rglob("*.json"):
        if path.name in ("curves.json", "scores.json"):
            path.unlink()
    document, _ = written(sweep)
    missing = {s["name"]: s["missing"] for s in document["sections"] if s["missing"]}
    assert missing == {
        "curves": "the nodes' epoch curves are not at hand",
        "channels": "the nodes' channel scores are not at hand",
    }


def test_text_of_the_sweep_cannot_run_in_the_page(sweep):
    evil = "<script>alert(1)</script>"
    path = sweep / "events.jsonl"
    path.write_text(path.read_text().replace("vanilla > snnl", f"{evil} > snnl"))
    manifest = json.loads((sweep / "manifest.json").read_text())
    manifest["data"]["warnings"] = [evil]
    (sweep / "manifest.json").write_text(json.dumps(manifest))
    _, text = written(sweep)
    assert evil not in text
    assert any(evil in trial["tip"][0] for trial in trials_of(text).values())  # it is there


def test_images_only_where_they_are_asked_for(sweep):
    _, without = written(sweep)
    assert "<img" not in without
    document, text = written(sweep, images=True)
    (section,) = [s for s in document["sections"] if s["name"] == "images"]
    assert section["missing"] is None
    shown = text.split('<section id="images">')[1].split("</section>")[0]
    assert "Licence of these images: no photograph of anybody" in shown
    sources = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', shown)
    steps = pruned_steps(gather(sweep))  # of the members, which are others on other processors
    assert 1 <= len(steps) <= 3
    assert len(sources) == len(steps) * 5 * 6  # of each step five channels, six images
    with Image.open(io.BytesIO(base64.b64decode(sources[0]))) as picture:
        assert picture.size == (32, 32)
    assert Reader(text).elsewhere == [s for s in Reader(text).elsewhere if s.startswith("data:")]
    manifest = json.loads((sweep / "manifest.json").read_text())
    manifest["data"]["fingerprint"] = "another"
    (sweep / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="the images are not those"):
        write_report(sweep, options=ReportOptions(images=True))


def test_the_most_exciting_images_are_those_of_a_forward_pass(sweep):
    """Checked by hand-made hooks on the stored root."""
    records = load_records(sweep)
    facts = gather(sweep)
    root = next(k for k, r in records.items() if r["trial"]["n"] == 0)
    extra = {"groups": ["light", "dark"], "aspect": 1.0, "attribute": "tone", "metrics": {}}
    portable = load_portable(save_portable(facts.store, root, sweep / "root", extra))
    images = load_dataset(facts.spec.data).images_NHWC[:40]
    found = excitation(portable, "layer4.1.conv2", "conv", images)
    seen = []
    norm = portable.model.net.get_submodule("layer4.1.bn2")
    handle = norm.register_forward_hook(lambda m, a, out: seen.append(out.detach().clone()))
    portable.logits(images)
    handle.remove()
    by_hand = torch.cat(seen).relu().mean((2, 3)).numpy()
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    best = most_exciting(found, 7, 3)
    assert list(by_hand[best, 7]) == sorted(by_hand[:, 7], reverse=True)[:3]


def test_mistakes(sweep, tmp_path):
    with pytest.raises(UserError, match="no sweep in"):
        write_report(tmp_path / "none", tmp_path / "report.html")
    with pytest.raises(UserError, match="--split must be one of validation, test but got 'tset'"):
        write_report(sweep, options=ReportOptions(split="tset"))
    with pytest.raises(UserError, match="not a file in a folder that exists"):
        write_report(sweep, tmp_path)
    assert openings(sweep) == []


def test_the_page_is_drawn_in_both_colour_schemes(sweep, tmp_path):
    """In a real browser; `make test` keeps both pictures in build/screenshots."""
    page = sweep / "report.html"
    write_report(sweep, page)
    brightness = {}
    for scheme in ("light", "dark"):
        pixels_HW3 = picture(page, tmp_path, scheme)
        assert pixels_HW3.shape == (2400, 1280, 3)
        # text and marks on every screenful: a page that breaks off leaves only its ground
        for part in np.split(pixels_HW3, 4):
            assert len(np.unique(part.reshape(-1, 3), axis=0)) > 20
        brightness[scheme] = np.median(pixels_HW3)
    assert brightness["dark"] < 64 < 192 < brightness["light"]
