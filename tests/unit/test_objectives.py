"""Directions, and the constraint on F1: signs, losses by hand, and samplers that heed them."""

import numpy as np
import pytest
from fake_sweep import FakeSweep, fake_spec

from orchestrator.fronts.aggregate import aggregate
from orchestrator.fronts.constraints import f1_loss, is_feasible, violations
from orchestrator.fronts.files import render
from orchestrator.fronts.front import build_front
from orchestrator.fronts.objectives import directions, maximised, reference_point
from orchestrator.fronts.page import Page, front_page
from orchestrator.search.proposals import Measured
from orchestrator.search.proposer import OptunaProposer
from orchestrator.search.schedule import Budget
from search_spaces.sweep_spec import OBJECTIVES, Search
from search_spaces.words import number
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.metrics.calibration import auroc
from trainables.metrics.corrected_gap import gap_debiased
from trainables.predictions import measure, split_predictions


def test_minimised_objectives_change_their_sign_and_back():
    names = ("f1", "flops", "gap_debiased")
    assert directions(names) == ["maximize", "minimize", "minimize"]
    values = np.array([[0.5, 10.0, 0.1]])
    assert maximised(values, names).tolist() == [[0.5, -10.0, -0.1]]
    assert (maximised(maximised(values, names), names) == values).all()
    assert reference_point(("f1", "gap_debiased")) == (0.0, -1.0)
    assert reference_point(("f1", "flops")) is None


@pytest.mark.parametrize(
    ("after", "loss"),
    [
        ({"a": 0.5, "b": 0.4}, 0.0),
        ({"a": 0.6, "b": 0.38}, 0.05),
        ({"a": 0.6, "b": 0.5}, -0.2),
        ({"a": 0.6, "b": None}, None),
    ],
)
def test_the_loss_is_the_worst_groups(after, loss):
    found = f1_loss(after, {"a": 0.5, "b": 0.4, "unseen": None, "zero": 0.0})
    assert found == (None if loss is None else pytest.approx(loss))


def test_no_limit_is_always_feasible_and_an_undefined_loss_never_below_one():
    assert is_feasible(None, None)
    assert violations(0.5, None) == {}
    assert not is_feasible(None, 0.01)
    assert is_feasible(0.01, 0.01)
    assert not is_feasible(0.0101, 0.01)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_sampler_turns_away_from_the_infeasible(sampler):
    """The objectives pull towards large ratios, the constraint forbids them above 0.3."""

    def share(constrained):
        # of one word alone NSGA-II mutates every child: it would draw at random
        arm = {"name": "snnl", "temperature": number(0.1, 5)}
        space = {"criterion": arm, "ratio": number(0.01, 0.9), "site": "conv"}
        space |= {"finetune": {"learning_rate": number(0.001, 0.1)}}
        proposer = OptunaProposer(fake_spec(sampler, prune=space, iterations=1))
        drawn = []
        for _ in range(100):
            for proposal in proposer.propose():
                ratio = proposal.parameters["prune.ratio"]
                drawn.append(ratio)
                limits = {"max_f1_loss": ratio - 0.3} if constrained else {}
                proposer.observe(proposal.configuration, Measured((ratio, ratio), limits))
        return np.mean(np.array(drawn[60:]) <= 0.3)

    assert share(True) > share(False) + 0.3


def test_the_study_holds_the_constraint_of_the_records(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    space = {"criterion": "snnl", "ratio": number(0.01, 0.9), "site": "conv"}
    spec = fake_spec("random", prune=space, iterations=1)
    fake.drive(schedule := fake.start(spec, Budget(configurations=5)))
    losses = {
        a.trial["ratio"]: a.figures["f1_loss"]
        for a in aggregate(schedule.records).values()
        if a.trial["role"] == "treatment"
    }
    trials = schedule.proposer.study.trials
    assert len(trials) == 5
    for trial in trials:
        expected = losses[trial.params["prune.ratio"]] - 0.01
        assert trial.constraints == {"max_f1_loss": pytest.approx(expected)}
    fake.ledger.close()


def test_infeasible_points_are_shown_but_no_members(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    schedule = fake.run(fake_spec(seeds=(0, 1, 2)))
    whole = build_front(schedule.records, ("f1",))
    limited = build_front(schedule.records, ("fate_eodd_hardt", "f1"), max_f1_loss=0.0)
    assert len(limited.members) + len(limited.dominated) == len(whole.members) + len(
        whole.dominated
    )
    assert all(m.aggregate.figures["f1_loss"] <= 0 for m in limited.members)
    assert any(
        m.aggregate.trial["role"] == "baseline" for m in limited.members + limited.dominated
    )
    assert any(m.aggregate.figures["f1_loss"] > 0 for m in limited.dominated)
    fake.ledger.close()


def test_a_minimised_objective_on_the_front(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    schedule = fake.run(fake_spec(seeds=(0, 1, 2)))
    front = build_front(schedule.records, ("gap_debiased",))
    gaps = [m.values[0] for m in front.members + front.dominated]
    assert front.members[0].values[0] == min(gaps)
    assert front.hypervolume == pytest.approx(1 - min(gaps))
    fake.ledger.close()


def test_every_objective_is_a_figure_of_the_aggregate(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    schedule = fake.run(fake_spec())
    point = next(iter(aggregate(schedule.records).values()))
    assert set(OBJECTIVES) <= set(point.figures)
    worst = min(
        g["f1"]
        for g in schedule.records[point.keys[0]]["result"]["metrics"]["validation"][
            "groups"
        ].values()
    )
    assert point.figures["f1_worst_group"] == worst
    fake.ledger.close()


def test_an_objective_twice_is_refused():
    with pytest.raises(ValueError, match="distinct"):
        Search(objectives=("f1", "f1"))


def test_scores_of_a_node_are_those_of_the_metrics(tmp_path):
    dataset = load_dataset(Synthetic.Config(num_images=120, image_size=16), cache_dir=tmp_path)
    rows = dataset.indices(1)
    logits = np.random.default_rng(0).normal(size=(len(rows), len(dataset.classes)))
    stored = {s: split_predictions(dataset, s, logits.astype(np.float16)) for s in ("validation",)}
    found = measure(dataset, stored, "corrected")["metrics"]["validation"]
    known = dataset.group_N[rows] >= 0
    exp = np.exp(logits.astype(np.float16).astype(float))[known]
    label = dataset.label_N[rows]
    assert found["auroc"] == pytest.approx(auroc(label[known], exp / exp.sum(1, keepdims=True)))
    gap = gap_debiased(
        label, logits.astype(np.float16).argmax(1), dataset.group_N[rows],
        dataset.patient_id_N[rows],
        num_classes=len(dataset.classes), num_groups=len(dataset.groups),
    )["eodd_hardt"]  # fmt: skip
    assert found["gap_debiased"] == (None if gap is None else pytest.approx(gap.value))


def test_a_front_of_minimised_objectives_is_shown_and_drawn(tmp_path):
    schedule = FakeSweep(tmp_path / "sweep").run(fake_spec())
    records = schedule.records
    schedule.ledger.close()
    front = build_front(records, ("f1_worst_group", "flops"))
    table = render(front)
    assert table.row_count == len(front.members) > 0
    page = front_page(
        front, records, [{"adaptive": False}] * len(front.members), Page("a", "b", "c", ())
    )
    assert all(member.aggregate.trial["label"].split(" > ")[0] in page for member in front.members)
