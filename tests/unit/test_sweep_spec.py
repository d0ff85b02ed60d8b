"""A sweep's spec: every branch is checked when it is made, and its YAML leads to the same keys."""

import pytest
import yaml
from fake_sweep import DATA, fake_spec

from orchestrator.search.tree import full_tree
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice, integer, number, one_of
from trainables.errors import UserError
from trainables.specs import validate

NESTED = {
    "baseline": {"name": "vanilla", "training": {"epochs": integer(1, 2)}},
    "prune": one_of(
        {"name": "snnl", "temperature": choice(0.5, 5.0), "ratio": 0.1},
        {
            "criterion": "snnl",
            "ratio": choice(0.1, 0.2),
            "site": one_of("conv", "block"),
            "finetune": {"learning_rate": 1e-05},
        },
    ),
}


def keys(spec):
    return set(full_tree(spec, DATA, "cpu").nodes)


def read(text, place="space.yaml"):
    return validate(SweepSpec, yaml.safe_load(text), place=place)


def document(**changes):
    return yaml.safe_load(fake_spec().to_yaml()) | changes


def mistake(**changes):
    with pytest.raises(UserError) as error:
        validate(SweepSpec, document(**changes), place="space.yaml")
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("changes", [{}, NESTED, {"seeds": (3, 1), "controls": ()}])
def test_yaml_leads_to_the_same_keys(changes):
    spec = fake_spec(**changes)
    again = read(spec.to_yaml())
    assert again == spec
    assert keys(again) == keys(spec)
    assert again.to_yaml() == spec.to_yaml()


def test_a_real_space_and_back():
    prune = {"criterion": "snnl", "ratio": number(0.1, 0.5, log=True)}
    spec = fake_spec("tpe", prune=prune)
    assert read(spec.to_yaml()) == spec


def test_the_number_of_keys_of_a_nested_space_by_hand():
    """2 baselines and the reference; arms of each: 2 temperatures + 2 ratios x 2 sites, 2 deep;
    random at each (ratio, site, recipe); none for each recipe.
    """
    spec = fake_spec(**NESTED)
    # random: (0.1, block, default), and 2 ratios x 2 sites with the other recipe: 5 arms
    assert len(keys(spec)) == 3 + 2 * 2 * (2 + 4 + 5 + 2)


def test_an_arm_may_be_written_in_several_ways():
    ways = [
        "snnl",
        {"name": "snnl"},
        {"criterion": "snnl"},
        {"criterion": {"name": "snnl"}},
        {"criterion": {"name": "snnl"}, "ratio": 0.02},
    ]
    assert len({frozenset(keys(fake_spec(prune=way))) for way in ways}) == 1


def test_recipes_fill_what_is_left_open_and_no_more():
    spec = fake_spec(
        training={"epochs": 3},
        finetune={"epochs": 2, "batch_size": 16},
        prune={"criterion": "snnl", "finetune": {"batch_size": 8}},
    )
    trial = spec.trial(spec.baseline, spec.prune, 1, 0)
    assert trial.baseline.training.epochs == 3
    assert (trial.prune.finetune.epochs, trial.prune.finetune.batch_size) == (2, 8)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"baseline": "vanila"}, ["'vanila'", "did you mean 'vanilla'?"]),
        ({"prune": "snl"}, ["'snl'", "did you mean 'snnl'?"]),
        ({"prune": {"criterion": "snnl", "ratoi": 0.1}}, ["ratoi", "did you mean 'ratio'?"]),
        ({"prune": {"criterion": "snnl", "ratio": 1.2}}, ["ratio must be in (0, 1)", "1.2"]),
        (
            {"prune": {"name": "snnl", "temperatur": 0.1}},
            ["temperatur", "did you mean 'temperature'?"],
        ),
        ({"controls": ["snnl"]}, ["'snnl' is not a control arm"]),
        ({"controls": ["nonne"]}, ["did you mean 'none'?"]),
        ({"reference": "vanila"}, ["did you mean 'vanilla'?"]),
        ({"seeds": [0, 0]}, ["seeds must be distinct", "[0, 0]"]),
        ({"seeds": []}, ["seeds"]),
        ({"iterations": 0}, ["iterations", "0"]),
        ({"iteratons": 1}, ["iteratons", "did you mean 'iterations'?"]),
        ({"search": {"sampler": "tpes"}}, ["search.sampler", "tpes"]),
        ({"search": {"samplr": "tpe"}}, ["samplr", "did you mean 'sampler'?"]),
        ({"search": {"objectives": ["f2"]}}, ["unknown objective 'f2'", "f1"]),
        ({"name": "a/b"}, ["name"]),
        ({"backbone": "resnet17"}, ["did you mean 'resnet18'?"]),
        ({"data": {"name": "synthetic", "num_image": 60}}, ["did you mean 'num_images'?"]),
        ({"prune": {"criterion": "snnl", "ratio": {"choice": 0.1}}}, ["choice: cannot read 0.1"]),
    ],
)  # fmt: skip
def test_mistakes_name_value_place_and_the_nearest_name(changes, parts):
    message = mistake(**changes)
    for part in parts:
        assert part in message
    assert "space.yaml" in message


@pytest.mark.parametrize(
    "prune",
    [
        one_of("none", {"criterion": "snnl", "ratoi": 0.1}),
        one_of({"name": "snnl"}, one_of({"name": "random"}, {"criterion": "snnl", "ratoi": 1})),
        # a label that begins like another one: the walk must take the longer one
        one_of(
            {"name": "snnl", "ratio": 0.1},
            {"name": "snnl", "ratio": choice(0.1, 0.2), "finetune": one_of({}, {"ratoi": 1})},
        ),
    ],
)
def test_a_typo_in_any_branch_is_found_when_the_spec_is_made(prune):
    with pytest.raises(ValueError, match="ratoi"):
        fake_spec(prune=prune)


@pytest.mark.parametrize("bad", [0.0, 1.0])
def test_each_value_of_each_word_is_tried(bad):
    """Also the last value of a word in the last option of a nested choice."""
    ratios = choice(0.1, 0.2, bad)
    with pytest.raises(ValueError, match="prune ratio must be in"):
        fake_spec(prune=one_of("none", one_of("random", {"criterion": "snnl", "ratio": ratios})))
    with pytest.raises(ValueError, match="prune ratio must be in"):
        fake_spec("tpe", prune={"criterion": "snnl", "ratio": number(0.0, 0.5)})


def test_labels_that_begin_alike_lead_to_their_own_branch():
    """`one` and `one_more`: every value behind the second is tried, too."""
    options = one_of(
        {"name": "random", "ratio": 0.1},
        {"name": "random_more", "ratio": choice(0.1, 2.0)},
    )
    from search_spaces.sweep_spec import _one_at_a_time

    tried = [(point["name"], point["ratio"]) for point in _one_at_a_time(options)]
    assert ("random_more", 2.0) in tried


def test_a_grid_needs_a_finite_space():
    with pytest.raises(ValueError, match="sampler grid cannot list"):
        fake_spec("grid", prune={"criterion": "snnl", "ratio": number(0.1, 0.5)})


def test_objectives_by_mode():
    assert Search().resolved_objectives == ("fate_eodd_hardt", "f1")
    assert Search(mode="paper").resolved_objectives == ("fate_eodd", "f1")
    assert Search(objectives=("f1", "params")).resolved_objectives == ("f1", "params")


def test_a_race_needs_objectives_that_are_redrawn():
    from orchestrator.search.arms import DRAWN
    from search_spaces.sweep_spec import OBJECTIVES, UNDRAWN

    assert {name for name in OBJECTIVES if name not in UNDRAWN} == set(OBJECTIVES) & DRAWN
    with pytest.raises(ValueError, match="objective 'auroc' has no redraws"):
        Search(racing=True, objectives=("auroc", "f1"))
    with pytest.raises(ValueError, match="mode 'paper' has no redraws"):
        Search(racing=True, mode="paper")
    assert Search(racing=True).num_confirming == 5
    assert Search(racing=True, confirm_seeds=0).num_confirming == 0
    assert Search().share_of_search == 1
    assert Search(racing=True, reserve=0.25).share_of_search == 0.75


def test_seeds_stay_below_those_that_confirm():
    with pytest.raises(ValueError, match="below 10000"):
        fake_spec(seeds=(0, 10_000))
