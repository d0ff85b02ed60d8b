"""The front of made-up but consistent records: levels, who competes, hypervolume, knee, files,
schemas.
"""

import csv
import hashlib
import io
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume
from rich.console import Console

import orchestrator
from orchestrator.fronts.files import COLUMNS, render, rows, write_front
from orchestrator.fronts.front import Front, build_front
from orchestrator.fronts.objectives import objective
from orchestrator.fronts.pareto import dominates, hypervolume, knee, pareto_mask
from orchestrator.ledger.records import Ledger, load_records, write_records
from orchestrator.run import render_run
from search_spaces.sweep_spec import OBJECTIVES

SCHEMAS = Path(orchestrator.__file__).parent / "schemas"
OBJECTIVE = ("fate_eodd_hardt", "f1")
SHA = "ab" * 32


def schema(name: str) -> jsonschema.Draft202012Validator:
    document = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def key_of(name: str, seed: int) -> str:
    return hashlib.sha256(f"{name}/{seed}".encode()).hexdigest()[:32]


def result(f1: float | None, gap: float | None, *, groups=(0.1, -0.1)) -> dict:
    """A result whose macro F1 is the mean of its two groups'."""
    undefined = (
        {} if gap is not None else {"eodd_hardt": "no class is defined in both groups of any pair"}
    )
    if f1 is None:
        undefined["f1"] = "no samples"
    figures = dict.fromkeys(
        (
            "precision",
            "recall",
            "accuracy",
            "f1_pooled",
            "precision_diff",
            "recall_diff",
            "f1_diff",
        ),
        0.5,
    )
    gaps = dict.fromkeys(("eopp0", "eopp1", "eodd", "demographic_parity"), 0.2)
    base = 0.5 if f1 is None else f1
    each = {
        name: dict.fromkeys(("precision", "recall", "accuracy"), 0.5)
        | {"num_samples": 20, "f1": base + groups[i]}
        for i, name in enumerate(("light", "dark"))
    }
    validation = (
        figures
        | gaps
        | {
            "mode": "corrected",
            "num_samples": 40,
            "f1": f1,
            "eodd_hardt": gap,
            "groups": each,
            "undefined": undefined,
        }
    )
    train = {"f1": 0.9, "accuracy": 0.9, "eopp1": 0.1, "eodd_hardt": None}
    model = {
        "weights_sha256": SHA,
        "plan_sha256": SHA[:32],
        "num_params": 1000,
        "flops": 2000,
        "channels": {},
        "predictions_sha256": dict.fromkeys(("train", "validation", "test"), SHA),
    }
    return {
        "model": model,
        "metrics": {"validation": validation, "train": train},
        "counts_sha256": {"validation": SHA, "train": SHA},
    }


def trial(name: str, seed: int, role: str) -> dict:
    cut = role == "treatment"
    pruned = role != "baseline"
    return {
        "label": name,
        "configuration": name,
        "role": role,
        "baseline": {"name": name.split(" ")[0]},
        "criterion": ("snnl" if cut else "none") if pruned else None,
        "site": "conv" if cut else None,
        "layer": "layer4.1.conv2" if cut else None,
        "ratio": 0.1 if cut else None,
        "prune": {"criterion": {"name": "snnl"}, "ratio": 0.1} if pruned else None,
        "n": int(pruned),
        "seed": seed,
    }


class Folder:
    """A sweep folder written through the real ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path).open()

    def event(self, event: str, name: str, seed: int, role: str = "treatment", **fields) -> str:
        key = key_of(name, seed)
        self.ledger.append(
            event,
            key=key,
            trial=trial(name, seed, role),
            parents=[] if role == "baseline" else [key_of("vanilla", seed)],
            compares_with={"reference": key_of("vanilla", seed)},
            **fields,
        )
        return key

    def done(self, name: str, seed: int, f1, gap, role: str = "treatment", **kind) -> str:
        execution = {
            "seconds": {"train": 2.5, "score": 0.5},
            "started": 1_700_000_000.0 + seed,
            "host": "h",
            "pid": 1,
            "device": "cpu",
            "cached": False,
            "attempt": "a",
        }
        return self.event(
            "done", name, seed, role, result=result(f1, gap, **kind), execution=execution
        )

    def failed(self, name: str, seed: int, role: str = "treatment") -> str:
        error = {"type": "TrainingError", "reason": "loss is nan in epoch 1 of 2"}
        return self.event("failed", name, seed, role, error=error, execution={})

    def records(self) -> dict:
        self.ledger.close()
        return load_records(self.path)


def sweep(path: Path) -> Folder:
    """Reference F1 .5, gap .2 on both seeds; so FATE = (f1 - .5) / .5 - (gap - .2) / .2."""
    folder = Folder(path)
    for seed in (0, 1):
        folder.done("vanilla", seed, 0.5, 0.2, "baseline")
        folder.done("vanilla > none x 1", seed, 0.55, 0.2, "control")  # FATE .1
        folder.done("vanilla > snnl a", seed, 0.45, 0.1)  # FATE .4
        folder.done("vanilla > snnl b", seed, 0.40, 0.15)  # FATE .05: dominated
        folder.done(
            "vanilla > snnl c", seed, (0.40, 0.54)[seed], (0.10, 0.16)[seed]
        )  # FATE .29, F1 .47
    return folder


def brute_force_mask(values_NK):
    return [
        not any(
            all(b >= a for a, b in zip(p, q, strict=True))
            and any(b > a for a, b in zip(p, q, strict=True))
            for q in values_NK
        )
        for p in values_NK
    ]


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_mask_is_the_definition_also_with_ties_and_duplicates(num_objectives):
    rng = np.random.default_rng(num_objectives)
    for _ in range(20):
        values_NK = rng.integers(0, 5, size=(rng.integers(0, 25), num_objectives)).astype(float)
        assert pareto_mask(values_NK).tolist() == brute_force_mask(values_NK.tolist())


def test_equal_points_do_not_dominate_each_other():
    assert not dominates([1, 2], [1, 2])
    assert dominates([1, 3], [1, 2])
    assert not dominates([2, 1], [1, 2])
    assert pareto_mask(np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])).tolist() == [
        True,
        True,
        False,
    ]


def test_an_undefined_value_is_refused_not_compared():
    with pytest.raises(ValueError, match="NaN"):
        pareto_mask(np.array([[np.nan, 1.0]]))


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
def test_hypervolume_is_optunas(num_objectives):
    rng = np.random.default_rng(num_objectives)
    reference_K = np.linspace(-0.5, 0.5, num_objectives)
    for size in (1, 2, 12, 40):
        values_NK = reference_K + rng.exponential(size=(size, num_objectives)).round(1)
        expected = compute_hypervolume(-values_NK, -reference_K)
        assert hypervolume(values_NK, reference_K) == pytest.approx(expected, abs=1e-12)


def test_hypervolume_of_a_grid_is_counted_cell_by_cell():
    rng = np.random.default_rng(7)
    for num_objectives in (2, 3):
        values_NK = rng.integers(1, 9, size=(6, num_objectives)).astype(float)
        centre = np.arange(9) + 0.5
        cell_MK = np.stack(np.meshgrid(*[centre] * num_objectives), -1).reshape(-1, num_objectives)
        covered = (cell_MK[:, None, :] < values_NK).all(2).any(1).sum()
        assert hypervolume(values_NK, [0.0] * num_objectives) == pytest.approx(covered)


def test_points_below_the_reference_add_nothing():
    values_NK = np.array([[0.5, 0.5], [-2.0, 9.0], [9.0, 0.0]])
    assert hypervolume(values_NK, [-1.0, 0.0]) == pytest.approx(1.5 * 0.5)
    assert hypervolume(np.zeros((0, 2)), [-1.0, 0.0]) == 0.0


def test_every_objective_has_a_start_or_none_that_is_natural():
    starts = {name: objective(name).reference for name in OBJECTIVES}
    assert {v for n, v in starts.items() if n.startswith("fate_")} == {-1.0}
    assert starts["f1"] == 0.0
    assert {n for n, v in starts.items() if v is None} == {"params", "flops", "latency"}


def distance_to_chord(point_2, a_2, b_2):
    """Distance of a point to the line through two others, by the area of their triangle."""
    (x, y), (x1, y1), (x2, y2) = point_2, a_2, b_2
    return abs((x2 - x1) * (y1 - y) - (x1 - x) * (y2 - y1)) / np.hypot(x2 - x1, y2 - y1)


def test_knee_is_farthest_from_the_chord_whatever_the_scales():
    x_N = np.linspace(0, np.pi / 2, 9)
    values_NK = np.stack([np.sin(x_N), np.cos(x_N) ** 3], 1)
    scaled_NK = (values_NK - values_NK.min(0)) / np.ptp(values_NK, axis=0)
    outwards_N = scaled_NK.sum(1) > 1
    distance_N = [distance_to_chord(p, scaled_NK[0], scaled_NK[-1]) for p in scaled_NK]
    expected = int(np.argmax(np.where(outwards_N, distance_N, 0)))
    assert knee(values_NK) == expected
    assert knee(values_NK * [100.0, 0.01] + [3.0, -7.0]) == expected


def test_no_knee_below_three_members_or_without_a_bend():
    assert knee(np.array([[0.0, 1.0], [1.0, 0.0]])) is None
    assert knee(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])) is None
    assert knee(np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])) is None
    assert knee(np.array([[0.0, 1.0], [0.3, 0.3], [1.0, 0.0]])) is None
    assert knee(np.array([[0.0, 1.0], [0.6, 0.6], [1.0, 0.0]])) == 1


def test_front_of_configurations(tmp_path):
    front = build_front(sweep(tmp_path).records(), OBJECTIVE)
    names = [row["configuration"] for row in rows(front)]
    assert names == ["vanilla > snnl a", "vanilla > snnl c", "vanilla > none x 1"]
    assert [m.aggregate.trial["label"] for m in front.dominated] == ["vanilla > snnl b", "vanilla"]
    # FATE of c is that of the means (F1 .47, gap .13), not the mean of (.3, .28)
    assert front.members[1].values == pytest.approx(
        ((0.47 - 0.5) / 0.5 - (0.13 - 0.2) / 0.2, 0.47)
    )
    # by hand: boxes from (-1, 0) to (.4, .45), (.29, .47), (.1, .55)
    assert front.hypervolume == pytest.approx(1.4 * 0.45 + 1.29 * 0.02 + 1.1 * 0.08)
    assert front.keys[:2] == (key_of("vanilla > snnl a", 0), key_of("vanilla > snnl a", 1))
    assert any("2 seeds each: not publishable" in note for note in front.notes)


def test_the_reference_is_the_point_of_fate_zero(tmp_path):
    folder = Folder(tmp_path)
    folder.done("vanilla", 0, 0.5, 0.2, "baseline")
    folder.done("vanilla > none x 1", 0, 0.45, 0.2, "control")
    (line,) = rows(build_front(folder.records(), OBJECTIVE))
    assert (line["configuration"], line["role"], line["fate_eodd_hardt"]) == (
        "vanilla",
        "baseline",
        0.0,
    )


def test_rows_say_spread_tags_and_nodes(tmp_path):
    line = next(
        r
        for r in rows(build_front(sweep(tmp_path).records(), OBJECTIVE))
        if "snnl c" in r["configuration"]
    )
    assert list(line) == list(COLUMNS)
    assert line["fate_eodd_hardt_seed_mean"] == pytest.approx((0.3 + 0.28) / 2)
    assert line["fate_eodd_hardt_seed_sd"] == pytest.approx(np.std([0.3, 0.28], ddof=1))
    assert line["f1_sd"] == pytest.approx(np.std([0.40, 0.54], ddof=1))
    assert line["tags"] == "levelling down; both gain"
    assert line["keys"] == f"{key_of('vanilla > snnl c', 0)} {key_of('vanilla > snnl c', 1)}"
    assert (line["iterations"], line["ratio"], line["num_seeds"], line["num_params"]) == (
        1,
        0.1,
        2,
        1000,
    )


def test_trial_level_compares_single_seeds(tmp_path):
    front = build_front(sweep(tmp_path).records(), OBJECTIVE, level="trial")
    assert len(front.members) + len(front.dominated) == 10
    of_c = [
        m for m in (*front.members, *front.dominated) if m.aggregate.configuration.endswith("c")
    ]
    values = {m.aggregate.seeds: m.values for m in of_c}
    assert values[(0,)] == pytest.approx((0.3, 0.40))
    assert values[(1,)] == pytest.approx((0.28, 0.54))
    # equal results of two seeds: both stay
    assert sum(m.aggregate.configuration == "vanilla > snnl a" for m in front.members) == 2


def test_incomplete_and_undefined_are_listed_with_their_reason(tmp_path):
    folder = sweep(tmp_path)
    folder.done("vanilla > snnl d", 0, 0.9, 0.0)  # would be the best, with one seed of two
    folder.failed("vanilla > snnl d", 1)
    folder.event("scheduled", "vanilla > snnl e", 0, attempt="x")
    for seed in (0, 1):
        folder.done("vanilla > snnl f", seed, 0.9, None)
        folder.done("vanilla > snnl g", seed, None, 0.1)
    front = build_front(folder.records(), OBJECTIVE)
    assert {row["configuration"][-1] for row in rows(front)} == {"a", "c", "1"}
    assert [(i["configuration"][-1], i["num_seeds"], i["reason"]) for i in front.incomplete] == [
        ("d", 1, "seed 1 failed"),
        ("e", 0, "seed 0 running"),
    ]
    reasons = {u["configuration"][-1]: u["reasons"] for u in front.undefined}
    why = "no class is defined in both groups of any pair"
    assert reasons["f"] == {"fate_eodd_hardt": f"gap undefined, {why}"}
    assert reasons["g"] == {"fate_eodd_hardt": "F1 undefined", "f1": "no samples"}


def test_a_reference_gap_of_zero_leaves_no_front_and_says_why(tmp_path):
    folder = Folder(tmp_path)
    folder.done("vanilla", 0, 0.5, 0.0, "baseline")
    front = build_front(folder.records(), OBJECTIVE)
    assert front.members == ()
    assert front.hypervolume == 0.0
    assert front.undefined[0]["reasons"] == {"fate_eodd_hardt": "reference gap is 0"}


def test_a_record_whose_reference_failed_is_incomplete(tmp_path):
    folder = Folder(tmp_path)
    folder.failed("vanilla", 0, "baseline")
    folder.done("vanilla > snnl a", 0, 0.5, 0.1)
    front = build_front(folder.records(), OBJECTIVE)
    reasons = {i["configuration"]: i["reason"] for i in front.incomplete}
    assert reasons == {
        "vanilla": "seed 0 failed",
        "vanilla > snnl a": "the reference of a seed is not done",
    }


@pytest.mark.parametrize("objectives", [OBJECTIVE, ("f1",), ("fate_eodd", "fate_eopp1", "f1")])
@pytest.mark.parametrize("level", ["configuration", "trial"])
def test_files_fit_the_schema_and_each_other(tmp_path, objectives, level):
    folder = sweep(tmp_path)
    folder.failed("vanilla > snnl d", 1)
    for seed in (0, 1):
        folder.done("vanilla > snnl f", seed, 0.9, None)
    front = build_front(folder.records(), objectives, level=level)
    write_front(tmp_path, front)
    document = json.loads((tmp_path / "front.json").read_text())
    schema("front").validate(document)
    assert document["members"] == rows(front)
    assert not any(line["knee"] for line in document["dominated"])
    with (tmp_path / "front.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS)
    assert [float(line["f1"]) for line in lines] == [line["f1"] for line in document["members"]]
    assert json.loads(lines[0]["baseline_spec"]) == {"name": "vanilla"}
    assert sorted(p.name for p in tmp_path.glob("*front*")) == ["front.csv", "front.json"]


def test_schema_refuses_a_row_without_its_keys(tmp_path):
    write_front(tmp_path, build_front(sweep(tmp_path).records(), OBJECTIVE))
    document = json.loads((tmp_path / "front.json").read_text())
    del document["members"][0]["keys"]
    with pytest.raises(jsonschema.ValidationError):
        schema("front").validate(document)


def test_an_empty_sweep_has_an_empty_front(tmp_path):
    front = build_front({}, OBJECTIVE)
    write_front(tmp_path, front)
    schema("front").validate(json.loads((tmp_path / "front.json").read_text()))
    assert (front.members, front.knee, front.hypervolume) == ((), None, 0.0)
    assert render(front).row_count == 0


def test_render_marks_the_knee_and_carries_the_notes(tmp_path):
    folder = sweep(tmp_path / "sweep")
    for seed in (0, 1):
        folder.done(
            "vanilla > snnl k", seed, 0.53, 0.15
        )  # FATE .31: scaled (.7, .8) between (1, 0) and (0, 1)
    front = build_front(folder.records(), OBJECTIVE)
    console = Console(width=200, file=io.StringIO())
    console.print(render(front))
    text = console.file.getvalue()
    assert front.knee == 1
    assert "vanilla > snnl k *" in text
    assert text.count(" *") == 1 + text.count("* the knee")
    assert "not publishable" in text


def next_verbs(front: Front) -> list[str]:
    """The verbs that the end of a run with this front names."""
    counts = ("done", "computed_now", "cached", "failed", "blocked", "stopped")
    document = {f"num_{name}": 0 for name in counts} | {
        "folder": "runs/mine", "seconds": 1.0, "errors": [], "stopped": None, "versions": "",
        "tracking": "done", "tracking_uri": "sqlite:///mlflow.db", "_front": front,
        "_judgement": None,
    }  # fmt: skip
    console = Console(width=200, file=io.StringIO())
    console.print(render_run(document))
    return re.findall(r"^\w+: +fatefront (\w+) runs/mine", console.file.getvalue(), re.MULTILINE)


def test_a_run_ends_with_what_to_do_next(tmp_path):
    front = build_front(sweep(tmp_path).records(), OBJECTIVE)
    assert next_verbs(front) == ["ui", "report", "export"]
    assert next_verbs(build_front({}, OBJECTIVE)) == ["ui"]  # the others refuse an empty front


def test_records_fit_their_schema(tmp_path):
    folder = sweep(tmp_path)
    folder.failed("vanilla > snnl d", 1)
    folder.event("scheduled", "vanilla > snnl e", 0, attempt="x")
    records = folder.records()
    write_records(tmp_path, records)
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    validator = schema("record")
    for line in lines:
        validator.validate(json.loads(line))
    states = [json.loads(line)["status"] for line in lines]
    assert {s: states.count(s) for s in states} == {"done": 10, "failed": 1, "running": 1}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r: r.pop("result"), []),
        (lambda r: r["result"]["metrics"].update(test={}), ["result", "metrics"]),
        (lambda r: r.update(error={"type": "E", "reason": "r"}), ["error"]),
        (lambda r: r.update(status="lost"), ["status"]),
        (lambda r: r["trial"].pop("seed"), ["trial"]),
    ],
)
def test_record_schema_refuses(tmp_path, change, place):
    record = json.loads(json.dumps(sweep(tmp_path).records()[key_of("vanilla > snnl a", 0)]))
    change(record)
    errors = list(schema("record").iter_errors(record))
    assert any(list(e.absolute_path)[: len(place)] == place for e in errors)


def test_the_driver_s_records_fit_their_schema(tmp_path):
    from tiny_sweep import run_tiny

    run_tiny(tmp_path / "sweep", tmp_path / "cache", seeds=(0,))
    records = load_records(tmp_path / "sweep")
    assert len(records) == 4
    for record in records.values():
        schema("record").validate(record)
    front = build_front(records, OBJECTIVE)
    write_front(tmp_path, front)
    schema("front").validate(json.loads((tmp_path / "front.json").read_text()))
