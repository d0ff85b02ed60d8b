"""Objectives of other packages: on fronts, in samplers' directions, refused by name."""

import csv
import json
import math
from pathlib import Path

import jsonschema
import pytest
from fake_sweep import FakeSweep, fake_spec

from orchestrator.fronts import files
from orchestrator.fronts.aggregate import aggregate
from orchestrator.fronts.files import render, write_front
from orchestrator.fronts.front import sweep_front
from orchestrator.fronts.objectives import directions, maximised, objective, reference_point
from orchestrator.search.proposals import Measured
from orchestrator.search.proposer import OptunaProposer
from search_spaces.json_schema import space_schema
from search_spaces.objectives import OwnObjective, objectives
from search_spaces.sweep_spec import Search
from search_spaces.words import number
from trainables.errors import UserError


@pytest.fixture
def own():
    """Registers one under ``lowest``; what was registered is forgotten again."""

    def register(function, **attributes):
        cls = type("Lowest", (OwnObjective,), {"value": staticmethod(function), **attributes})
        return objectives.register("lowest")(cls)

    yield register
    objectives._classes.pop("lowest", None)


def worst_recall(validation, model):
    return min(group["recall"] for group in validation["groups"].values())


def swept(tmp_path, **search):
    fake = FakeSweep(tmp_path / "sweep")
    spec = fake_spec(search=Search(sampler="grid", objectives=("lowest", "f1"), **search))
    schedule = fake.run(spec)
    records = schedule.records
    schedule.ledger.close()
    return spec, records


def test_a_configuration_has_the_mean_over_its_seeds(tmp_path, own):
    own(worst_recall, reference=0.0)
    spec, records = swept(tmp_path, max_f1_loss=None)
    for point in aggregate(records).values():
        alone = [
            min(g["recall"] for g in r["result"]["metrics"]["validation"]["groups"].values())
            for r in (records[key] for key in point.keys)
        ]
        assert point.figures["lowest"] == pytest.approx(math.fsum(alone) / len(alone))
    front = sweep_front(records, spec)
    best = max(p.figures["lowest"] for p in aggregate(records).values())
    assert front.members[0].values[0] == best
    assert front.reference_point == (0.0, 0.0)


def test_it_is_a_column_of_the_front_s_files_and_table(tmp_path, own):
    own(worst_recall)
    spec, records = swept(tmp_path, max_f1_loss=None)
    front = sweep_front(records, spec)
    write_front(tmp_path, front)
    (line, *_) = csv.DictReader((tmp_path / "front.csv").read_text().splitlines())
    assert float(line["lowest"]) == front.members[0].values[0]
    document = json.loads((tmp_path / "front.json").read_text())
    assert document["members"][0]["lowest"] == front.members[0].values[0]
    schema = Path(files.__file__).parents[1] / "schemas" / "front.json"
    jsonschema.validate(document, json.loads(schema.read_text()))
    assert "lowest" in [column.header for column in render(front).columns]


def test_a_minimised_one_turns_its_sign(own):
    own(worst_recall, direction="minimize", reference=1.0)
    names = ("f1", "lowest")
    assert directions(names) == ["maximize", "minimize"]
    assert maximised([[0.5, 0.2]], names).tolist() == [[0.5, -0.2]]
    assert reference_point(names) == (0.0, -1.0)


def test_the_sampler_goes_where_it_is_better(own):
    own(worst_recall, direction="minimize")
    arm = {"name": "snnl", "temperature": number(0.1, 5)}
    space = {"criterion": arm, "ratio": number(0.01, 0.9), "site": "conv"}
    search = Search(sampler="tpe", objectives=("lowest", "f1"), max_f1_loss=None)
    proposer = OptunaProposer(fake_spec("tpe", prune=space, iterations=1, search=search))
    drawn = []
    for _ in range(60):
        for proposal in proposer.propose():
            drawn.append(ratio := proposal.parameters["prune.ratio"])
            proposer.observe(proposal.configuration, Measured((ratio, -ratio), {}))
    assert sum(drawn[40:]) / len(drawn[40:]) < 0.3


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_no_finite_number_is_undefined(tmp_path, own, value):
    own(lambda validation, model: value)
    spec, records = swept(tmp_path)
    front = sweep_front(records, spec)
    assert front.members == ()
    assert {u["reasons"]["lowest"] for u in front.undefined} == {
        "the objective gives no number for a seed"
    }


def test_one_that_fails_is_one_line(tmp_path, own):
    own(worst_recall)
    _, records = swept(tmp_path)
    objectives._classes.pop("lowest")
    own(lambda validation, model: validation["no such figure"])
    with pytest.raises(UserError, match=r"objective 'lowest' .* node \w+: KeyError"):
        aggregate(records)


def test_what_cannot_be_is_refused(own):
    own(worst_recall, direction="up")
    with pytest.raises(UserError, match="maximize or minimize"):
        objective("lowest")
    with pytest.raises(ValueError, match="did you mean 'lowest'"):
        Search(objectives=("lowst", "f1"))
    with pytest.raises(ValueError, match="'lowest' has no redraws"):
        Search(objectives=("lowest", "f1"), racing=True)
    with pytest.raises(ValueError, match="built-in"):
        objectives.register("f1")(OwnObjective)


def test_editors_know_those_of_installed_packages_alone(own):
    own(worst_recall)
    for installed in (True, False):
        search = space_schema(installed=installed)["$defs"]["Search"]["properties"]
        assert ("lowest" in search["objectives"]["items"]["enum"]) is installed
