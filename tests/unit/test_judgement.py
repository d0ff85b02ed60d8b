"""How sure a front is: a real tiny sweep's judgement against figures obtained another way."""

import csv
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from tiny_sweep import copy_sweep, run_tiny

from orchestrator.fronts.files import all_notes, render, write_front
from orchestrator.fronts.front import build_front
from orchestrator.fronts.headline import headline
from orchestrator.fronts.history import MAX_POINTS, hypervolume_history
from orchestrator.fronts.judged import judge_front
from orchestrator.fronts.optimism import expected_optimism
from orchestrator.judging.contrasts import contrasted_figure, contrasts_notes
from orchestrator.judging.evidence import num_replicates, open_evidence
from orchestrator.judging.judge import judge
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import load_records, read_events
from orchestrator.search.arms import barred_draws
from orchestrator.tracking.one_pass import Pass
from orchestrator.tracking.runs import CONFIGURATION, CONFIGURATION_KEY, KEY, KIND
from search_spaces.sweep_spec import Search
from trainables.metrics.verdict import metric_name
from trainables.store import Store

OBJECTIVES = ("fate_eodd_hardt", "f1")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("judgement")
    run_tiny(base / "sweep", base / "cache", controls=("none", "random"))
    yield base / "sweep"
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def judged(original):
    records = load_records(original)
    front = build_front(records, OBJECTIVES)
    return front, records, judge_front(original, front, records)


def points(front):
    return [member.aggregate for member in (*front.members, *front.dominated)]


def test_every_point_is_judged_with_its_own_figures(judged):
    front, _, judgement = judged
    assert judgement.problems == ()
    assert set(judgement.points) == {point.configuration for point in points(front)}
    for point in points(front):
        found = judgement.points[point.configuration]
        for name in ("f1", "eopp0", "eopp1", "eodd", "eodd_hardt"):
            interval = found.intervals[name]
            assert interval.value == pytest.approx(point.figures[name], abs=1e-12)
            assert interval.low < interval.value < interval.high
        for gap in ("eopp1", "eodd_hardt"):
            assert found.gaps[gap].floor.value == pytest.approx(point.figures[gap], abs=1e-12)
        if found.intervals["fate_eodd_hardt"].value is not None:
            assert found.intervals["fate_eodd_hardt"].value == pytest.approx(
                point.figures["fate_eodd_hardt"], abs=1e-12
            )
        assert 0 <= found.membership.frequency <= 1


def test_contrasts_are_paired_differences_from_the_arms_own_controls(judged):
    front, records, judgement = judged
    by_key = {point.configuration: point for point in points(front)}
    name = judgement.contrasted
    treated = [p for p in points(front) if p.trial["role"] == "treatment"]
    assert treated
    for point in treated:
        found = judgement.points[point.configuration].contrasts
        assert set(found) == {"none", "random"}
        for control, (contrast, told) in found.items():
            other = records[records[point.keys[0]]["compares_with"][control]]
            value = by_key[other["trial"]["configuration"]].figures[name]
            assert contrast.plain.value == pytest.approx(point.figures[name] - value, abs=1e-12)
            assert contrast.simultaneous.low <= contrast.plain.low
            assert contrast.adjusted_p_value >= contrast.p_value
            assert {"none": "fine-tuning alone", "random": "random channels"}[control] in told.text
            assert metric_name(name) in told.text
    assert all(not judgement.points[p.configuration].contrasts
               for p in points(front) if p.trial["role"] != "treatment")  # fmt: skip


def test_what_is_contrasted_is_the_sweeps_own_objective():
    determined = {"fate_eopp1": True, "fate_eopp0": False}
    for objectives, name in (
        (["fate_eopp1", "f1"], "fate_eopp1"),
        (["fate_eopp0", "f1"], "eopp0"),
        (["params", "f1_worst_group"], "f1_worst_group"),
        (["gap_debiased", "auroc"], "eodd_hardt"),
        (["auroc", "params"], None),
    ):
        assert contrasted_figure(objectives, determined) == name
        told = " ".join(contrasts_notes(name, objectives))
        assert ("no differences" in told) if name is None else (metric_name(name) in told)
    assert "not determined" in contrasts_notes("eopp0", ["fate_eopp0"])[1]
    assert "gap_debiased" in contrasts_notes("eodd_hardt", ["gap_debiased", "auroc"])[0]


def test_the_files_hold_the_judgement(judged, tmp_path):
    front, _, judgement = judged
    write_front(tmp_path, front, judgement)
    lines = list(csv.DictReader((tmp_path / "front.csv").read_text().splitlines()))
    assert len(lines) == len(front.members)
    for line, member in zip(lines, front.members, strict=True):
        found = judgement.points[member.aggregate.configuration]
        assert float(line["f1_low"]) == pytest.approx(found.intervals["f1"].low)
        assert float(line["eodd_hardt_floor"]) == pytest.approx(
            found.gaps["eodd_hardt"].floor.floor
        )
        assert float(line["membership_frequency"]) == found.membership.frequency
        assert (line["vs_none_verdict"] != "") == (member.aggregate.trial["role"] == "treatment")
    reasons = {
        text
        for member in front.members
        for text in judgement.points[member.aggregate.configuration].intervals["f1"].approximate
        if "seed" not in text
    }
    assert reasons
    told = next(note for note in all_notes(front, judgement) if "are approximate: " in note)
    assert any(text in told for text in reasons)
    table = render(front, judgement)
    caption = str(table.caption)
    assert "joint redraws" in caption
    notes = all_notes(front, judgement)
    # the terminal has the long ones in short, and says so
    short = [n if len(n) <= 78 else n.partition("; ")[0] for n in notes]
    assert short != notes
    assert [f"· {note}" for note in short] == caption.splitlines()[-1 - len(notes) : -1]
    assert "have these notes whole" in caption.splitlines()[-1]


def test_a_fate_that_is_not_determined_is_marked_in_the_table(judged):
    front, _, judgement = judged
    name = "fate_eodd_hardt"

    def cells(reason, low, high):
        """Of the table, were all members' intervals of FATE like this."""
        points = dict(judgement.points)
        for member in front.members:
            key = member.aggregate.configuration
            found = replace(points[key].intervals[name], reason=reason, low=low, high=high)
            points[key] = replace(points[key], intervals=points[key].intervals | {name: found})
        table = render(front, replace(judgement, points=points))
        (column,) = [one for one in table.columns if one.header == "FATE"]
        return list(column.cells), "n.d.: not determined" in str(table.caption)

    marked, explained = cells("the gap reaches its floor", None, None)
    assert all(cell.endswith("\nn.d.") for cell in marked)
    assert explained
    for given in ((None, -0.1, 0.2), ("the reference itself", None, None)):
        unmarked, explained = cells(*given)
        assert not any("n.d." in cell for cell in unmarked)
        assert not explained


def test_the_hypervolume_grows_with_trials_and_hours(judged, original):
    front, records, judgement = judged
    history = judgement.history
    assert [point["num_trials"] for point in history] == list(range(1, len(records) + 1))
    volumes = [point["hypervolume"] for point in history]
    assert volumes[-1] == pytest.approx(front.hypervolume)
    assert volumes[0] == 0.0 or front.members
    seconds = sum(
        sum(e["execution"]["seconds"].values())
        for e in read_events(original)
        if e["event"] == "done"
    )
    assert history[-1]["hours"] == pytest.approx(seconds / 3600, abs=1e-4)
    many = [e for e in read_events(original) if e["event"] == "done"] * 40
    assert len(hypervolume_history(many, lambda known: float(len(known)))) <= MAX_POINTS + 1


def test_predictions_that_are_gone_leave_the_rest_judged(original, tmp_path):
    folder = copy_sweep(original, tmp_path / "sweep")
    records = load_records(folder)
    front = build_front(records, OBJECTIVES)
    store = Store(str(folder / "store"))
    gone = next(p for p in points(front) if p.trial["role"] == "treatment")
    path = store.node(gone.keys[0])["files"]["validation.npz"]["path"]
    (folder / "store/nodes" / gone.keys[0][:2] / gone.keys[0] / path).unlink()
    evidence = open_evidence(folder, read_manifest(folder), store, records)
    judgement = judge(points(front), records, evidence, OBJECTIVES, front.reference_point)
    assert set(judgement.points) == {p.configuration for p in points(front)} - {gone.configuration}
    assert any(gone.keys[0] in problem for problem in judgement.problems), judgement.problems
    (folder / "images.npz").unlink()
    nothing = judge_front(folder, front, records)
    assert nothing.points == {}
    assert "no intervals over patients" in nothing.problems[0]
    shutil.rmtree(folder)


def test_expected_optimism_of_the_best_of_equal_arms_is_the_expected_maximum():
    """Of 5 independent standard normals the largest has mean 1.16296 (Harter 1961)."""
    draws = np.random.default_rng(0).standard_normal((200_000, 5))
    assert expected_optimism(np.zeros(5), draws) == pytest.approx(1.16296, abs=0.01)
    assert expected_optimism(np.zeros(1), draws[:, :1]) == pytest.approx(0, abs=1e-12)
    far = np.array([0.0, 100.0, 0.0])
    assert expected_optimism(far, draws[:, :3] + far) == pytest.approx(0, abs=1e-9)
    shared = np.repeat(draws[:, :1], 5, axis=1)
    assert expected_optimism(np.zeros(5), shared) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("num_arms", "apart"), [(5, 0.0), (34, 0.0), (12, 0.5)])
def test_expected_optimism_is_that_of_noisy_points(num_arms, apart):
    """The points as truths would give .72 of it where arms are alike."""
    rng = np.random.default_rng(1)
    true, found = [], []
    for _ in range(300):
        truth, shared = rng.normal(0, apart, num_arms), rng.normal(0, 2)
        seen = truth + shared + rng.normal(0, 1, num_arms)
        true.append(seen.max() - shared - truth[seen.argmax()])
        noise = rng.normal(0, 1, (400, num_arms)) + rng.normal(0, 2, (400, 1))
        found.append(expected_optimism(seen, seen + noise))
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.12)


def test_a_group_that_the_reference_never_gets_right_bars_nobody():
    """As at the points: 63 % of the draws of an arm that improves every group were barred."""
    from trainables.metrics.figures import metric_figure
    from trainables.metrics.replicates import replicate_metrics

    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, 302), np.zeros(302, int)
    group[:2], label[:2] = 1, [0, 1]
    right = rng.random((3, 5, 302)) < np.array([0.8, 0.88, 0.6])[:, None, None]
    right[0, :, :2] = False  # the reference
    prediction = np.where(right, label, 1 - label)
    drawn = replicate_metrics(
        label, group, np.arange(302), prediction, num_classes=2, num_groups=2, num_replicates=400
    )
    figures = [metric_figure(drawn, name) for name in drawn.value_AS if name.startswith("f1_of_")]
    assert len(figures) == 2
    points = [SimpleNamespace(configuration=name) for name in ("same", "better", "worse")]
    arms = SimpleNamespace(row={"same": 0, "better": 1, "worse": 2})
    share = barred_draws(points, arms, figures, 0.01).mean(0)
    assert share[0] == 0
    assert share[1] < 0.02
    assert share[2] > 0.98


def test_replicates_are_fewer_where_there_is_much_to_hold():
    assert num_replicates(10, 3) == 2000
    assert num_replicates(1000, 5) == 400
    assert num_replicates(100_000, 5) == 300


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_shows_each_gap_beside_its_floor(original, tmp_path):
    folder = copy_sweep(original, tmp_path / "sweep")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    Pass(folder, uri).run(final=False, track_models="none")
    records = load_records(folder)
    evidence = open_evidence(folder, read_manifest(folder), Store(str(folder / "store")), records)
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = {r.data.tags[KEY]: r for r in client.search_runs([experiment.experiment_id])
            if KEY in r.data.tags}  # fmt: skip
    assert set(runs) == set(records)
    for key, run in runs.items():
        for gap, floor in evidence.floor([key]).gaps.items():
            assert run.data.metrics[f"{gap}_floor"] == pytest.approx(floor.floor)
            assert run.data.metrics[f"{gap}_p_value"] == pytest.approx(floor.p_value)
    shutil.rmtree(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_has_a_run_a_configuration_with_how_sure_it_is(original, tmp_path):
    folder = copy_sweep(original, tmp_path / "sweep")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    search = yaml.safe_load((folder / "sweep.yaml").read_text()).get("search") or {}
    limit = Search.model_validate(search).max_f1_loss
    front = build_front(load_records(folder), OBJECTIVES, max_f1_loss=limit)
    judgement = judge_front(folder, front, load_records(folder))
    Pass(folder, uri).run(final=True, track_models="none")
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = {
        run.data.tags[CONFIGURATION_KEY]: run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags[KIND] == CONFIGURATION
    }
    assert set(runs) == set(judgement.points)
    told = 0
    for key, run in runs.items():
        found, metrics, tags = judgement.points[key], run.data.metrics, run.data.tags
        for name in ("f1", "eodd_hardt"):
            assert metrics[f"{name}_low"] == pytest.approx(found.intervals[name].low)
            assert metrics[f"{name}_high"] == pytest.approx(found.intervals[name].high)
        floor = found.gaps["eodd_hardt"].floor
        assert metrics["eodd_hardt_excess"] == pytest.approx(floor.excess)
        assert metrics["membership_frequency"] == found.membership.frequency
        assert tags["membership"] == found.membership.state
        assert tags["contrasted"] == judgement.contrasted
        for control, (_, verdict) in found.contrasts.items():
            assert tags[f"vs_{control}_verdict"] == verdict.text
            told += 1
    assert told
    (parent,) = [r for r in client.search_runs([experiment.experiment_id])
                 if r.data.tags[KIND] == "sweep"]  # fmt: skip
    assert parent.data.tags["fatefront.headline"] == headline(front)
    shutil.rmtree(folder)
