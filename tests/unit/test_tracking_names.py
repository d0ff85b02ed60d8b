"""Names of runs, and the views that MLflow's pages open with."""

import json

import pytest

from orchestrator.tracking.names import configuration_name, dotted, trial_name
from orchestrator.tracking.view import CHART, TABLE, TAG, page_of, shared_views
from trainables.baselines.hsic import HSIC
from trainables.models.resnet import ResNet18
from trainables.pruning.snnl import SNNL
from trainables.trial_spec import Prune, Recipe, Trial, configuration_label


def test_a_trial_s_run_is_named_so_that_a_person_knows_it():
    recipe = Recipe(epochs=1)
    trial = Trial(
        backbone=ResNet18.Config(),
        baseline=HSIC.Config(training=recipe),
        prune=Prune(criterion=SNNL.Config(), ratio=0.02, finetune=recipe),
        n=3,
        seed=1,
    )
    record = {"label": configuration_label(trial), "seed": trial.seed}
    assert trial_name(record) == "hsic · snnl 2 % · n=3 · seed 1"
    name = configuration_name(record["label"], ["0", "1", "2"])
    assert name == "hsic · snnl 2 % · n=3 · 3 seeds"
    change = {"finetune_loss": "cross_entropy", "surgery": "weight_mask"}
    other = trial.model_copy(update={"prune": trial.prune.model_copy(update=change)})
    name = "hsic · snnl 2 % (surgery=weight_mask, finetune_loss=cross_entropy) · n=3"
    assert dotted(configuration_label(other)) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("vanilla", "vanilla"),
        ("vanilla > none x 1", "vanilla · none · n=1"),
        ("obd(share=0.5 x 2) > random 10 % x 12", "obd(share=0.5 x 2) · random 10 % · n=12"),
    ],
)
def test_only_the_number_of_iterations_at_the_end_is_rewritten(label, name):
    assert dotted(label) == name


@pytest.mark.parametrize(
    ("objectives", "right", "upward"),
    [
        (("fate_eodd_hardt", "f1"), "f1", "fate_eodd_hardt"),
        (("fate_eopp1", "flops", "f1"), "f1", "fate_eopp1"),
        (("f1", "params"), "params", "f1"),
    ],
)
def test_the_views_hold_the_sweep_s_own_objectives(objectives, right, upward):
    tags = shared_views(objectives)
    table, chart = (json.loads(tags[f"{TAG}{key}"]) for key in (TABLE, CHART))
    assert {f"metrics.`{name}`" for name in objectives} <= set(table["selectedColumns"])
    assert table["selectedColumns"][0] == f"metrics.`{objectives[0]}`"
    assert table["orderByAsc"] is False
    (drawn,) = chart["compareRunCharts"]
    assert (drawn["xaxis"]["key"], drawn["yaxis"]["key"]) == (right, upward)
    assert drawn["metricSectionId"] == chart["compareRunSections"][0]["uuid"]
    assert all(len(value) < 5000 for value in tags.values())


def test_the_best_stands_first_also_where_less_is_better():
    table = json.loads(shared_views(("gap_debiased", "f1"))[f"{TAG}{TABLE}"])
    assert table["orderByAsc"] is True


def test_a_view_s_address():
    page = page_of("http://127.0.0.1:5000", "7", CHART)
    assert page.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
    assert "viewStateShareKey=fatefront-front" in page
    assert "compareRunsMode=CHART" in page
    assert "compareRunsMode" not in page_of("http://127.0.0.1:5000", "7", TABLE)
