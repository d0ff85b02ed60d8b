"""Tables of a real tiny sweep against scikit-learn, and of drawn counts against golden files.

Write the golden files again with ``python tests/unit/test_tables.py`` after reading what changed.
"""

import csv
import io
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from fake_sweep import CLASSES, NAN_LOSS, FakeSweep, fake_spec
from markdown_it import MarkdownIt
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support, recall_score
from tiny_sweep import copy_sweep, run_tiny
from typer.testing import CliRunner

from orchestrator.audit.audit import audit_table
from orchestrator.cli import app
from orchestrator.judging.evidence import open_evidence
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger, load_records, read_events
from orchestrator.tables.as_latex import escape
from orchestrator.tables.as_markdown import as_markdown
from orchestrator.tables.grid import grid_of
from orchestrator.tables.published import read_blocks
from orchestrator.tables.published_match import METHODS, differences, matching
from orchestrator.tables.tables import TableOptions, make_tables
from search_spaces.words import one_of
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.metrics.confusion import counts_digest
from trainables.metrics.fate import fate
from trainables.metrics.figures import metric_figure
from trainables.metrics.summary import summarise
from trainables.predictions import Predictions
from trainables.registry import baselines, criteria
from trainables.store import Store

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/tables"
SCHEMA = json.loads((ROOT / "orchestrator/schemas/tables.json").read_text())
GROUPS = ("light", "dark")
SCORES = ("precision", "recall", "f1")


def tables(folder, to=None, **options):
    document = make_tables(folder, TableOptions(**options), to)
    jsonschema.validate({k: v for k, v in document.items() if k != "_text"}, SCHEMA)
    return document


# -- a real sweep: two seeds of a root and one treated arm


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("tables")
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    spec = run_tiny(base / "sweep", base / "cache", prune=prune, controls=())
    yield base, load_dataset(spec.data, cache_dir=base / "cache")
    shutil.rmtree(base)


@pytest.fixture
def real(original, tmp_path, monkeypatch):
    """A copy, so that what one test opens is sealed in the next."""
    base, dataset = original
    monkeypatch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    folder = copy_sweep(base / "sweep", tmp_path / "sweep")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"store": str(folder / "store")}))
    return folder, dataset


def figures_by_sklearn(store, key, dataset, split):
    """Group -> precision, recall, F1 and recall by class, from the stored predictions alone."""
    rows = dataset.indices(("train", "validation", "test").index(split))
    predicted_N = Predictions.from_bytes(store.read(key, f"{split}.npz")).logits_NK.argmax(1)
    found = {}
    for number, group in enumerate(dataset.groups):
        of_group = dataset.group_N[rows] == number
        truth, answer = dataset.label_N[rows][of_group], predicted_N[of_group]
        scores = precision_recall_fscore_support(truth, answer, average="macro", zero_division=0)
        found[group] = (*scores[:3], recall_score(truth, answer, average=None, zero_division=0))
    return found


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_equal_scikit_learn(real, split):
    folder, dataset = real
    store = Store(str(folder / "store"))
    document = tables(folder, split=split, intervals="seeds")
    assert [row["role"] for row in document["rows"]] == ["baseline", "treatment"]
    seen = {}
    for row in document["rows"]:
        assert row["seeds"] == [0, 1]
        each = [figures_by_sklearn(store, key, dataset, split) for key in row["keys"]]
        for number, name in enumerate(SCORES):
            values_SG = np.array([[s[group][number] for group in dataset.groups] for s in each])
            for group, value_S in zip(dataset.groups, values_SG.T, strict=True):
                check(row["lines"][group][name], value_S)
            check(row["lines"]["Avg"][name], values_SG.mean(1))
            check(row["lines"]["Diff"][name], np.abs(np.diff(values_SG, axis=1))[:, 0])
        # two classes, both in both groups: |dTNR| of one is |dTPR| of the other
        eopp1_S = [np.abs(np.subtract(*(s[g][3] for g in dataset.groups))).mean() for s in each]
        for gap in ("eopp1", "eopp0", "eodd_hardt"):
            check(row["gaps"][gap], eopp1_S)
        f1_S = [np.mean([s[group][2] for group in dataset.groups]) for s in each]
        seen[row["configuration"]] = np.mean(f1_S), np.mean(eopp1_S)
    for row in document["rows"]:
        expected = fate(*seen[row["configuration"]], *seen["vanilla"])
        assert row["fates"]["eopp1"]["value"] == pytest.approx(expected)
        change = seen[row["configuration"]][1] - seen["vanilla"][1]
        assert row["fates"]["eopp1"]["change"]["value"] == pytest.approx(change)


def test_intervals_over_patients_and_floors_stand_beside_the_gaps(real):
    folder, _ = real
    alone, crossed = tables(folder, intervals="seeds"), tables(folder)
    assert (alone["intervals"], crossed["intervals"]) == ("seeds", "seeds and patients")
    records = load_records(folder)
    store = Store(str(folder / "store"))
    evidence = open_evidence(folder, read_manifest(folder), store, records)
    for before, row in zip(alone["rows"], crossed["rows"], strict=True):
        f1, gap = row["lines"]["Avg"]["f1"], row["gaps"]["eodd_hardt"]
        for figure, name in ((f1, "f1"), (gap, "eodd_hardt")):
            replicates = evidence.replicates([row["keys"]])
            wanted = metric_figure(replicates, name).interval(0)
            assert (figure["low"], figure["high"]) == pytest.approx((wanted.low, wanted.high))
            assert figure["value"] == pytest.approx(wanted.value)
        floor = evidence.floor(row["keys"]).gaps["eodd_hardt"]
        assert (gap["floor"], gap["p_value"]) == pytest.approx((floor.floor, floor.p_value))
        assert before["gaps"]["eodd_hardt"]["floor"] is None
        for line, name, of in (
            ("light", "precision", "precision_of_0"), ("dark", "f1", "f1_of_1"),
            ("Avg", "recall", "recall"), ("Diff", "f1", "f1_diff"),
        ):  # fmt: skip
            wanted = metric_figure(replicates, of).interval(0)
            figure = row["lines"][line][name]
            assert (figure["low"], figure["high"]) == pytest.approx((wanted.low, wanted.high))
            assert figure["value"] == before["lines"][line][name]["value"]
    first = crossed["rows"][0]["gaps"]["eopp1"]
    shown = f"{first['value']:.4f} [{first['low']:.4f}, {first['high']:.4f}]"  # never as ±
    assert shown in crossed["_text"].replace("*", "").replace("\\", "")
    assert f"(floor {first['floor']:.4f}, p " in crossed["_text"]
    assert "[" not in alone["_text"].split("\n\n")[1]
    first["p_value"] = None  # no patient has a counterpart: a group lacks a class
    written = as_markdown(grid_of(crossed))
    assert f"(floor {first['floor']:.4f})" in written
    assert any("equal per-class rates" in note for note in crossed["notes"])
    opened = tables(folder, split="test")
    assert opened["rows"][0]["gaps"]["eopp1"]["floor"] is not None


def test_where_predictions_are_not_at_hand_intervals_are_over_seeds(real):
    folder, _ = real
    (folder / "images.npz").unlink()
    document = tables(folder)
    assert document["intervals"] == "seeds"
    assert any("over seeds alone" in note for note in document["notes"])


def check(figure, value_S):
    assert figure["value"] == pytest.approx(np.mean(value_S), abs=1e-8)
    interval = [np.mean(value_S)] * 2
    if np.ptp(value_S) > 0:
        interval = stats.t.interval(0.95, len(value_S) - 1, np.mean(value_S), stats.sem(value_S))
    assert [figure["low"], figure["high"]] == pytest.approx(list(interval), abs=1e-7)


def openings(folder):
    return [event["keys"] for event in read_events(folder) if event["event"] == "test_opened"]


def test_validation_leaves_the_test_split_sealed(real):
    folder, _ = real
    for path in Path(folder / "store").rglob("sealed"):
        shutil.rmtree(path)  # nothing may even look there
    before = (folder / "events.jsonl").read_bytes()
    document = tables(folder)
    assert (folder / "events.jsonl").read_bytes() == before
    assert document["num_newly_opened"] == 0
    assert "the test split was not read" in document["notes"][0]


def test_split_test_is_an_opening_and_marks_nothing_as_best(real):
    folder, _ = real
    document = tables(folder, split="test", style="paper")
    keys = {key for row in document["rows"] for key in row["keys"]}
    assert [set(opened) for opened in openings(folder)] == [keys]
    assert keys == set(load_records(folder))
    assert document["num_newly_opened"] == len(keys) == 4
    kinds = [row[kind] for row in document["rows"] for kind in ("gaps", "fates")]
    figures = [figure for of_gaps in kinds for figure in of_gaps.values()]
    assert {(f["rank"], f["tied"]) for f in figures} == {(None, None)}
    assert not re.search(r"\*\*[0-9+-]|<u>", document["_text"])
    assert tables(folder, split="test")["num_newly_opened"] == 0
    assert len(openings(folder)) == 1
    # rows and their order are those of validation
    shown = [row["configuration_key"] for row in tables(folder)["rows"]]
    assert [row["configuration_key"] for row in document["rows"]] == shown


def test_test_figures_that_cannot_be_read_are_named(real):
    folder, _ = real
    key = tables(folder)["rows"][1]["keys"][1]
    store = Store(str(folder / "store"))
    entry = store.node(key)["files"]["test.npz"]
    (Path(store.folder(key)) / entry["path"]).unlink()
    document = tables(folder, split="test")
    assert len(document["rows"]) == 1  # a mean over fewer seeds would not be comparable
    assert any(key in note for note in document["notes"])


def test_nothing_is_opened_in_vain(real):
    folder, _ = real
    ledger = Ledger(folder).open()
    try:
        with pytest.raises(UserError, match="wait, or leave --split at validation"):
            tables(folder, split="test")
        tables(folder)
    finally:
        ledger.close()
    path = folder / "sweep.yaml"
    path.write_text(path.read_text().replace("num_images: 120", "num_images: 119"))
    with pytest.raises(UserError, match="not the one"):
        tables(folder, split="test")
    assert openings(folder) == []


def test_mode_paper_is_counted_again(real):
    """From the counts beside the nodes; every class is in both groups, so all figures stay."""
    folder, _ = real
    ours, paper = tables(folder, intervals="seeds"), tables(folder, mode="paper")
    assert (ours["mode"], paper["mode"]) == ("corrected", "paper")
    for a, b in zip(ours["rows"], paper["rows"], strict=True):
        assert flat(b) == pytest.approx(flat(a), abs=1e-7)
    key = paper["rows"][0]["keys"][0]
    (counts,) = Path(Store(str(folder / "store")).folder(key)).glob("counts-*.json")
    document = json.loads(counts.read_text())
    document["counts"]["validation"][0][-1] += 1
    counts.write_text(json.dumps(document))
    with pytest.raises(UserError, match="are not those of its record"):
        tables(folder, mode="paper")
    counts.unlink()
    with pytest.raises(UserError, match=f"counts of node {key} by tone"):
        tables(folder, mode="paper")
    tables(folder)


def flat(row):
    figures = [*row["gaps"].values(), *row["fates"].values(), row["lines"]["Diff"]["f1"]]
    return [figure[end] for figure in figures for end in ("value", "low", "high")]


# -- drawn counts: three seeds, absent classes and more at will


class Drawn(FakeSweep):
    """A folder that `tables` reads, of counts drawn from a trial's label and seed."""

    def __init__(self, folder, groups=GROUPS, classes=CLASSES):
        super().__init__(folder)
        self.groups, self.classes = groups, classes
        self.measure = self.drawn
        self.edit = lambda label, seed, count_GCC: count_GCC

    def drawn(self, key):
        scheduled = (e["trial"] for e in self.events("scheduled") if e["key"] == key)
        trial = next(scheduled)
        label, seed = trial["label"], trial["seed"]
        count_GCC = np.zeros((len(self.groups), len(self.classes), len(self.classes)), dtype=int)
        for g, true in itertools.product(range(len(self.groups)), range(len(self.classes))):
            hit = 60 + 8 * g + drawn_integer(0, 9, label, g, true)
            hit += drawn_integer(-1, 1, label, seed, g, true)
            count_GCC[g, true] = (100 - hit) // (len(self.classes) - 1)
            count_GCC[g, true, true] = hit
        count_GCC = self.edit(label, seed, count_GCC)
        self.put_counts(key, count_GCC)
        return {
            "metrics": {
                split: summarise(count_GCC, groups=self.groups, classes=self.classes)
                for split in ("train", "validation")
            },
            "counts_sha256": dict.fromkeys(("train", "validation"), counts_digest(count_GCC)),
        }

    def put_counts(self, key, count_GCC):
        cells = [[*map(int, cell), int(count_GCC[tuple(cell)])] for cell in np.argwhere(count_GCC)]
        path = Path(self.store.folder(key)) / f"counts-{'a' * 16}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"counts": {"validation": cells}}))

    def sweep(self, name="synthetic", attribute="tone", backbone="resnet18", **changes):
        spec = fake_spec(**({"seeds": (0, 1, 2), "iterations": 1} | changes))
        manifest = {
            "sweep": "fake", "sweep_id": "0" * 16, "mode": "corrected",
            "backbone": {"name": backbone}, "store": self.store.uri,
            "data": {
                "name": name, "attribute": attribute, "groups": list(self.groups),
                "classes": list(self.classes), "group_digest": "a" * 64, "fingerprint": "f" * 64,
            },
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        self.run(spec)
        self.ledger.close()
        return self.folder


def drawn_integer(low, high, *of):
    return random.Random(zlib.crc32("".join(map(str, of)).encode())).randint(low, high)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return Drawn(tmp_path_factory.mktemp("drawn") / "sweep").sweep()


GOLDEN_FILES = {
    "default.md": {},
    "paper.tex": {"format": "latex", "style": "paper", "mode": "paper"},
    "tidy.csv": {"format": "csv"},
}


def golden_text(folder, name):
    """What changes with versions and keys is taken out."""
    text = make_tables(folder, TableOptions(intervals="seeds", **GOLDEN_FILES[name]))["_text"]
    keys = {r["trial"]["configuration"] for r in load_records(folder).values()}
    for key in keys:
        text = text.replace(key, "KEY")
    return text


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_files(fake, name):
    expected = (GOLDEN / name).read_text()
    assert golden_text(fake, name) == expected, "run `python tests/unit/test_tables.py`"


@pytest.mark.parametrize("style", ["default", "paper"])
@pytest.mark.parametrize("published", ["match", "all"])
def test_markdown_is_one_table(fake, style, published):
    document = tables(fake, style=style, published=published)
    tokens = MarkdownIt("commonmark").enable("table").parse(document["_text"])
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == 1
    num_columns = kinds.count("th_open")
    num_lines = sum(len(row["lines"]) for row in [*document["rows"], *document["published"]])
    assert kinds.count("td_open") == num_columns * num_lines
    assert num_columns == (16 if style == "paper" else 12)
    # all notes are below, one item each
    misprints = [m for block in document["published"] for m in block["misprints"]]
    assert kinds.count("list_item_open") == len(document["notes"]) + len(misprints)
    text = "".join(token.content for token in tokens if token.type == "inline")
    assert "vanilla > snnl 30 % x 1" in text


@pytest.mark.parametrize("style", ["default", "paper"])
def test_latex_is_balanced_and_every_line_has_all_cells(fake, style):
    text = tables(fake, format="latex", style=style, published="all")["_text"]
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    stack = []
    for kind, name in environments:
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    lines = [line for line in body.splitlines() if line and line != r"\midrule"]
    assert len(lines) == 1 + 6 * 4 + 52  # header, ours, published
    for line in lines:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
        assert len(re.findall(r"(?<!\\)\$", line)) % 2 == 0
        assert not re.search(r"(?<!\\)[%#_]", line)
        bare = re.sub(r"\\[{}]", "", line)
        assert bare.count("{") == bare.count("}")
    assert text.isascii()
    caption = re.search(r"\\caption\{(.*)\}", text)[1]
    assert caption == "fake: synthetic by tone, resnet18"


def test_latex_of_every_special_sign():
    expected = r"50 \% \& a\_b \{x\} \#1 \$2 {[}c{]} \textasciitilde{}\textasciicircum{}"
    assert escape("50 % & a_b {x} #1 $2 [c] ~^") == expected
    assert escape("\\n < > |") == r"\textbackslash{}n $<$ $>$ $|$"
    assert escape("+0.123 ± 0.1") == r"$+$0.123 $\pm$ 0.1"
    assert escape("resnet-18") == "resnet-18"


def test_csv_has_a_line_a_configuration_and_group_and_audits(fake, tmp_path):
    document = tables(fake, format="csv", published="all", to=tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == document["_text"]
    rows = list(csv.DictReader(io.StringIO(document["_text"])))
    ours = [row for row in rows if row["source"] == "fatefront"]
    names = {(row["method"], row["group"]) for row in ours}
    assert len(names) == len(ours) == 6 * 4
    assert len(rows) == len(ours) + 52
    avg = {row["method"]: row for row in ours if row["group"] == "Avg"}
    for row in document["rows"]:
        for gap, figure in row["fates"].items():
            assert float(avg[row["configuration"]][f"fate_{gap}"]) == pytest.approx(
                figure["value"], abs=1e-6
            )
    audited = audit_table(tmp_path / "t.csv")
    table = {t["table"]: t for t in audited["tables"]}["fake"]
    assert (table["num_fates"], table["num_agree"]) == (24, 24)
    assert {t["method"]: t["tag"] for t in audited["tags"] if t["table"] == "fake"} == {
        row["configuration"]: row["tag"] for row in document["rows"]
    }
    published_too = {t["table"]: t["num_agree"] for t in audited["tables"] if t["table"] != "fake"}
    assert published_too == {"S1": 15, "S2": 0, "S3": 12}


def column(document, path):
    """(label, figure) of every row, by the path of a figure in it."""
    for row in document["rows"]:
        figure = row
        for name in path:
            figure = figure[name]
        yield row["configuration"], figure


@pytest.mark.parametrize(
    ("path", "higher"),
    [
        (("lines", "Avg", "f1"), True),
        (("lines", "Diff", "recall"), False),
        (("gaps", "eopp1"), False),
        (("fates", "eodd_hardt"), True),
    ],
)
def test_ranks_and_ties(fake, path, higher):
    document = tables(fake)
    figures = dict(column(document, path))
    order = sorted(figures, key=lambda name: figures[name]["value"], reverse=higher)
    assert [figures[name]["rank"] for name in order] == [1, 2, None, None, None, None]
    best = per_seed(fake, document, order[0], path)
    for name in order[1:]:
        other = per_seed(fake, document, name, path)
        if path[0] != "fates":
            low, high = stats.ttest_rel(best, other).confidence_interval()
            assert figures[name]["tied"] is bool(low <= 0 <= high)
    assert figures[order[0]]["tied"] is any(figures[name]["tied"] for name in order[1:])


def per_seed(folder, document, name, path):
    records = load_records(folder)
    (row,) = [row for row in document["rows"] if row["configuration"] == name]
    metrics = [records[key]["result"]["metrics"]["validation"] for key in row["keys"]]
    figure = f"{path[-1]}_diff" if "Diff" in path else path[-1]
    return [m.get(figure) for m in metrics]


def test_marks_of_the_two_styles(fake):
    """Paper: one bold and one second a column. Default: bold only where nobody ties."""
    document = tables(fake, style="paper", format="md")
    columns = [
        [figure for _, figure in column(document, path)]
        for path in [
            *(("lines", line, score) for line in ("Avg", "Diff") for score in SCORES),
            *((kind, gap) for kind in ("gaps", "fates") for gap in ("eopp0", "eopp1", "eodd")),
        ]
    ]
    table = document["_text"].split("\n\n")[1]
    best = max(figure["value"] for figure in columns[2])
    assert f" **{best:.3f}** ± " in table
    # two configurations may share a rank
    assert table.count("**") == 2 * sum(figure["rank"] == 1 for fs in columns for figure in fs)
    assert table.count("<u>") == sum(figure["rank"] == 2 for fs in columns for figure in fs)
    table = tables(fake)["_text"].split("\n\n")[1]
    ties = [[figure["tied"] for figure in figures] for figures in columns]
    assert table.count("≈") == sum(tied.count(True) for tied in ties) > 0
    alone = [tied for tied in ties if True not in tied and None not in tied]
    assert table.count("**") == 2 * len(alone) > 0
    assert [tied for tied in ties if None in tied] == [[None] * 6]  # FATE(Eodd), not determined


def test_the_paper_style_names_the_privileged_group_and_the_settings(fake):
    document = tables(fake, style="paper")
    assert {row["better_served_group"] for row in document["rows"]} == {"dark"}
    lines = [line.split(" | ") for line in document["_text"].splitlines() if line[:1] == "|"]
    assert lines[0][1:5] == ["pr", "pr\\_c", "n", "Group"]
    (snnl,) = [line for line in lines if "snnl 30 %" in line[0]]
    assert snnl[2:5] == ["0.3", "1", "light"]
    assert [line[4] for line in lines].count("dark (privileged)") == 6
    assert "↑" in " ".join(lines[0])


def test_changes_and_tags_are_those_of_the_groups_means(fake):
    document = tables(fake)
    rows = {row["configuration"]: row for row in document["rows"]}
    root = rows["vanilla"]
    assert root["tag"] == "reference"
    for row in document["rows"][1:]:
        change = {}
        for group in GROUPS:
            ours, theirs = (r["lines"][group]["f1"]["value"] for r in (row, root))
            change[group] = ours - theirs
            assert row["group_changes"][group]["f1"]["value"] == pytest.approx(change[group])
        gained = [name for name in GROUPS if change[name] > 0]
        assert (
            row["tag"]
            == {
                0: "levelling down",
                1: "worse-served group gains"
                if gained == ["light"]
                else "worse-served group does not gain",
                2: "both gain",
            }[len(gained)]
        )
    assert len({row["tag"] for row in document["rows"]}) > 2


def test_one_seed_has_no_interval_and_no_ties(tmp_path):
    document = tables(Drawn(tmp_path / "sweep").sweep(seeds=(4,)))
    assert document["seeds"] == [4]
    for row in document["rows"]:
        for figure in [*row["gaps"].values(), *row["fates"].values()]:
            assert (figure["low"], figure["high"], figure["tied"]) == (None, None, None)
            assert figure["value"] is not None
    assert "±" not in document["_text"].split("\n\n")[1]
    assert any("one seed: no interval" in note for note in document["notes"])


def test_fate_is_not_determined_where_the_reference_s_gap_may_be_0(tmp_path):
    sweep = Drawn(tmp_path / "sweep")

    def edit(label, seed, count_GCC):
        if label == "vanilla":  # the two groups alike but for a little, either way
            count_GCC[1] = count_GCC[0] + (seed - 1) * np.array([[2, -2], [0, 0]]) * (seed != 1)
            count_GCC[1, 0] += [1, -1]
        return count_GCC

    sweep.edit = edit
    folder = sweep.sweep()
    document = tables(folder)
    root, *others = document["rows"]
    assert root["gaps"]["eopp1"]["low"] < 0
    assert root["fates"]["eopp1"]["determined"]
    for row in others:
        found = row["fates"]["eopp1"]
        assert not found["determined"]
        assert found["reason"] == "the interval of the reference's gap reaches 0"
        change = row["gaps"]["eopp1"]["value"] - root["gaps"]["eopp1"]["value"]
        assert found["change"]["value"] == pytest.approx(change)
        assert f"n.d. (Δ {change:+.4f})" in document["_text"]
        assert found["tied"] is None
    assert any(note.startswith("n.d.:") for note in document["notes"])
    assert "n.d." not in tables(folder, style="paper")["_text"]


def test_a_class_that_a_group_lacks_by_hand(tmp_path):
    """Class bcc is not in the dark group; TPRs of the others are alike in both groups."""
    sweep = Drawn(tmp_path / "sweep", classes=("nv", "mel", "bcc"))

    def edit(label, seed, count_GCC):
        count_GCC[:] = [[8, 1, 1], [2, 6, 2], [5, 0, 5]]
        count_GCC[1, 2] = 0
        return count_GCC

    sweep.edit = edit
    folder = sweep.sweep(seeds=(0, 1))
    corrected, paper = tables(folder), tables(folder, mode="paper")
    assert corrected["rows"][0]["gaps"]["eopp1"]["value"] == 0
    assert paper["rows"][0]["gaps"]["eopp1"]["value"] == pytest.approx(0.5 / 3)
    assert corrected["rows"][1]["fates"]["eopp1"]["reason"] == "reference gap is 0"
    assert any("reference gap is 0" in note for note in corrected["notes"])
    assert paper["rows"][1]["fates"]["eopp1"]["value"] == pytest.approx(0)


def test_three_groups_and_why_paper_refuses_them(tmp_path):
    folder = Drawn(tmp_path / "sweep", groups=("I", "II", "III")).sweep()
    document = tables(folder, style="paper")
    assert list(document["rows"][0]["lines"]) == ["I", "II", "III", "Avg", "Diff"]
    assert any("largest over pairs" in note for note in document["notes"])
    assert audit_table(written(folder, tmp_path / "t.csv"))["num_disagree"] == 0
    with pytest.raises(UserError, match="mode paper is defined for 2 groups"):
        tables(folder, mode="paper")


def written(folder, path):
    tables(folder, to=path, format="csv")
    return path


def test_own_reference_and_labels_that_are_there_twice(tmp_path):
    """Two baselines that read alike: each chain against its own root, never ranked together."""
    other = {"name": "vanilla", "training": {"epochs": 3}}
    folder = Drawn(tmp_path / "sweep").sweep(baseline=one_of("vanilla", other))
    shared, own = tables(folder), tables(folder, reference="own")
    labels = [row["configuration"] for row in shared["rows"]]
    assert len(set(labels)) == len(labels) == 12
    assert all(re.search(r" \[[0-9a-f]{8}\]$", label) for label in labels)
    roots = {row["configuration_key"]: row for row in own["rows"] if row["n"] == 0}
    assert len(roots) == 2
    assert [row["tag"] for row in own["rows"]].count("reference") == 2
    assert [row["tag"] for row in shared["rows"]].count("reference") == 1
    records = load_records(folder)
    for row in own["rows"]:
        key = records[row["keys"][0]]["compares_with"]["own"]
        root = roots[records[key]["trial"]["configuration"]]
        figures = [(r["lines"]["Avg"]["f1"], r["gaps"]["eodd"]) for r in (row, root)]
        values = [figure["value"] for pair in figures for figure in pair]
        assert row["fates"]["eodd"]["value"] == pytest.approx(fate(*values))
    ranks = [row["fates"]["eodd"]["rank"] for row in own["rows"]]
    assert ranks.count(1) == 2


def test_configurations_without_all_seeds_are_listed(tmp_path):
    sweep = Drawn(tmp_path / "sweep")
    sweep.sweep(seeds=(0, 1, 2))
    schedule = sweep.start(fake_spec(seeds=(0, 1, 2), iterations=2))
    sweep.drive(
        schedule,
        fails=lambda a: NAN_LOSS if a.node.trial.n == 2 and a.node.trial.seed == 1 else None,
    )
    sweep.ledger.close()
    document = tables(sweep.folder)
    assert {row["n"] for row in document["rows"]} == {0, 1}
    assert {(i["num_seeds"], i["num_seeds_needed"]) for i in document["incomplete"]} == {(2, 3)}
    assert any("5 configurations are not here" in note for note in document["notes"])


# -- published rows beside ours


def test_published_references_and_privileged_groups_are_named(fake):
    """The row that others are measured against gains nothing against itself."""
    document = tables(fake, style="paper", published="all")
    tags = {(b["table"], b["method"]): b["tag"] for b in document["published"]}
    assert [key for key, tag in tags.items() if tag == "reference"] == [
        ("S3", "VGG-11"), ("S3", "HSIC"),
    ]  # fmt: skip
    assert tags["S3", "SCP-HSIC"] == "levelling down"
    text = document["_text"]
    published = text[text.index("published:") :]
    assert published.count("| Dark (privileged) |") == 9
    assert published.count("| Female (privileged) |") == 4
    assert "| Dark |" not in published


@pytest.fixture(scope="module")
def named_like_the_paper(tmp_path_factory):
    """Drawn counts under the names of the paper's data: what stands beside is by name alone."""
    prune = {"criterion": "snnl", "ratio": 0.02, "site": "conv"}
    sweep = Drawn(tmp_path_factory.mktemp("drawn") / "sweep")
    return sweep.sweep(
        "fitzpatrick17k", "skin_type", "vgg11", prune=prune, iterations=3, controls=("none",)
    )


def test_the_published_row_stands_beside_ours(named_like_the_paper):
    document = tables(named_like_the_paper)
    beside = {
        row["configuration"]: [block["method"] for block in row["published"]]
        for row in document["rows"]
        if row["published"]
    }
    assert beside == {"vanilla": ["VGG-11"], "vanilla > snnl 2 % x 3": ["SCP-VGG-11"]}
    lines = document["_text"].splitlines()
    (start,) = [k for k, line in enumerate(lines) if "published: SCP-VGG-11 (S3)" in line]
    assert lines[start].split(" | ")[1:5] == ["Dark", "0.580", "0.583", "0.552"]
    assert "| 0.286 | 0.2371 | 0.143 | 0.2433 | both gain |" in lines[start + 2]
    assert "vanilla > snnl 2 % x 3" in lines[start - 4]
    # the misprint is marked, not corrected
    (root,) = [line for line in lines if "| 0.361 |" in line]
    assert "0.182<sup>a</sup>" in root
    assert any(line.startswith("* a: S3 VGG-11, eodd: above 0.1814") for line in lines)
    assert any("not reproduced" in note for note in document["notes"])
    assert tables(named_like_the_paper, published="none")["_text"].count("published") == 0


def test_other_data_gets_no_published_row_unless_asked(fake):
    assert all(row["published"] == [] for row in tables(fake)["rows"])
    document = tables(fake, published="all")
    assert len(document["published"]) == 13
    assert any("no real image of it was run" in note for note in document["notes"])
    assert any("cannot be compared" in note for note in document["notes"])
    letters = re.findall(r"<sup>(\w+)</sup>", document["_text"])
    notes = re.findall(r"^\* (\w): S", document["_text"], re.MULTILINE)
    assert sorted(set(letters)) == notes


@pytest.mark.parametrize(
    ("changes", "methods"),
    [
        ({}, ["SCP-VGG-11"]),
        ({"n": 2}, []),
        ({"ratio": 0.05}, []),
        ({"criterion": "random"}, []),
        ({"prune": {"criterion": {"name": "snnl", "direction": "highest"}}}, []),
        ({"baseline": {"name": "fairprune"}}, ["SCP-FairPrune"]),
        ({"baseline": {"name": "hsic"}}, ["SCP-HSIC"]),
        ({"criterion": None, "prune": None, "n": 0, "ratio": None}, ["VGG-11"]),
        ({"criterion": None, "prune": None, "n": 0, "baseline": {"name": "obd"}}, ["OBD"]),
        ({"criterion": None, "prune": None, "n": 0, "baseline": {"name": "mfd"}}, []),
    ],
)
def test_what_matches_what(changes, methods):
    trial = {"baseline": {"name": "vanilla"}, "criterion": "snnl", "ratio": 0.02, "n": 3,
             "prune": {"criterion": {"name": "snnl"}}}  # fmt: skip
    setting = {"dataset": "fitzpatrick17k", "attribute": "skin_type", "backbone": "vgg11"}
    blocks = read_blocks()
    assert [b.method for b in matching(trial | changes, **setting, blocks=blocks)] == methods
    for other in ({"dataset": "ham10000"}, {"attribute": "six_types"}, {"backbone": "resnet18"}):
        assert matching(trial | changes, **(setting | other), blocks=blocks) == []


CUT = "surgery: ours cut, published weight_mask"


@pytest.mark.parametrize(
    ("baseline", "prune", "expected"),
    [
        ({"name": "vanilla"}, {}, [CUT]),
        ({"name": "vanilla"}, {"surgery": "weight_mask", "finetune_loss": "baseline"}, []),
        ({"name": "hsic"}, {"surgery": "weight_mask", "finetune_loss": "cross_entropy"}, []),
        ({"name": "hsic"}, {"surgery": "weight_mask"},
         ["finetune_loss: ours baseline (hsic), published cross_entropy"]),
        ({"name": "fairprune"}, {}, [CUT]),  # of vanilla
        ({"name": "fairprune", "source": {"name": "hsic"}}, {},
         [CUT, "finetune_loss: ours baseline (fairprune), published cross_entropy"]),
    ],
)  # fmt: skip
def test_what_a_published_row_differs_in(baseline, prune, expected):
    pruned = {"baseline": baseline, "n": 3, "prune": {"criterion": {"name": "snnl"}} | prune}
    assert differences(pruned) == expected
    assert differences({"baseline": baseline, "n": 0, "prune": None}) == []


def test_a_row_of_another_pruning_is_shown_and_says_so(named_like_the_paper, tmp_path):
    note = f"published SCP-VGG-11 (S3) is of another pruning than ours above it: {CUT}"
    document = tables(named_like_the_paper)
    differs = {b["method"]: b["differs"] for r in document["rows"] for b in r["published"]}
    assert differs == {"VGG-11": [], "SCP-VGG-11": [CUT]}
    assert [line for line in document["notes"] if "another pruning" in line] == [note]
    assert note.replace("_", "\\_") in document["_text"]
    lines = csv.DictReader(io.StringIO(tables(named_like_the_paper, format="csv")["_text"]))
    found = {(line["method"], line["differs"]) for line in lines if line["split"] == "test"}
    assert found == {("VGG-11", ""), ("SCP-VGG-11", CUT)}
    prune = {"criterion": "snnl", "ratio": 0.02, "site": "conv", "surgery": "weight_mask"}
    alike = Drawn(tmp_path / "sweep").sweep(
        "fitzpatrick17k", "skin_type", "vgg11", prune=prune, iterations=3, controls=("none",)
    )
    document = tables(alike)
    assert [b["differs"] for r in document["rows"] for b in r["published"]] == [[], []]
    assert not any("another pruning" in line for line in document["notes"])
    every = tables(named_like_the_paper, published="all")["published"]
    assert [block["differs"] for block in every] == [[]] * 13


def test_the_mapping_names_registered_parts():
    assert {block.method for block in read_blocks()} == set(METHODS)
    for baseline, criterion in METHODS.values():
        assert baseline in baselines.names()
        assert criterion is None or criterion in criteria.names()


# -- the verb


def test_the_verb_prints_the_table_as_it_is_and_json_alone(fake, tmp_path):
    def call(*arguments):
        result = CliRunner().invoke(app, ["tables", str(fake), *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert call() == tables(fake)["_text"]
    assert call("--format", "latex") == tables(fake, format="latex")["_text"]
    document = json.loads(call("--json", "--to", tmp_path / "t.md"))
    assert document["to"] == str(tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text() == tables(fake)["_text"]
    assert call("--to", tmp_path / "t.md").splitlines()[0] == str(tmp_path / "t.md")
    for place in (tmp_path, tmp_path / "none" / "t.md"):
        with pytest.raises(UserError, match="--to"):
            tables(fake, to=place)


def test_a_sweep_with_nothing_done_has_no_table(tmp_path):
    sweep = Drawn(tmp_path / "sweep")
    sweep.sweep(seeds=(0,))
    (sweep.folder / "events.jsonl").write_text("")
    with pytest.raises(UserError, match="no configuration is done"):
        tables(sweep.folder)


if __name__ == "__main__":
    folder = Drawn(Path(tempfile.mkdtemp()) / "sweep").sweep()
    for name in GOLDEN_FILES:
        (GOLDEN / name).write_text(golden_text(folder, name))
    sys.stdout.write(f"wrote {', '.join(GOLDEN_FILES)} in {GOLDEN}\n")
