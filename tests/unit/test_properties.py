"""What must hold for any spec, any counts and any points, not only for those we thought of.

Shape legend: N points, K objectives, G groups, C classes.
"""

import itertools

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestrator.fronts.pareto import dominates, hypervolume, pareto_mask
from search_spaces.sweep_spec import SweepSpec
from trainables.metrics.fairness import GAPS
from trainables.metrics.summary import summarise
from trainables.specs import canonical
from trainables.trial_spec import DataIdentity, Prune, Recipe, Trial, node_key

RECIPES = st.builds(
    Recipe,
    epochs=st.integers(0, 500),
    batch_size=st.integers(2, 512),
    learning_rate=st.floats(1e-6, 10),
    momentum=st.floats(0, 0.99),
    nesterov=st.booleans(),
    weight_decay=st.floats(0, 1),
    schedule=st.sampled_from(["constant", "step", "cosine"]),
    step_size=st.integers(1, 300),
    gamma=st.floats(0.01, 1),
    sampling=st.sampled_from(["natural", "class", "group"]),
)
PRUNES = st.builds(
    Prune,
    criterion=st.sampled_from(["snnl", "random", "none", "magnitude"]),
    ratio=st.floats(0.001, 0.999),
    surgery=st.sampled_from(["cut", "weight_mask"]),
    finetune=RECIPES,
)
TRIALS = st.builds(
    lambda training, prune, n, seed: Trial(
        backbone="resnet18",
        baseline={"name": "vanilla", "training": training},
        prune=prune if n else None,
        n=n,
        seed=seed,
    ),
    RECIPES, PRUNES, st.integers(0, 3), st.integers(0, 9999),
)  # fmt: skip
DATA = DataIdentity("f" * 64, "g" * 64)
COUNTS = arrays(np.int64, (3, 3, 3), elements=st.integers(0, 40))
POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 3)),
                elements=st.integers(-4, 4).map(float))  # fmt: skip


@given(TRIALS)
def test_a_trial_read_from_its_json_or_yaml_has_the_same_key(trial: Trial) -> None:
    trial = trial.resolved()
    key = node_key(trial, DATA)
    again = Trial.model_validate_json(trial.model_dump_json())
    by_yaml = Trial.model_validate(yaml.safe_load(yaml.safe_dump(trial.model_dump(mode="json"))))
    assert again == by_yaml == trial
    assert node_key(again, DATA) == node_key(by_yaml, DATA) == key
    assert trial.resolved() == trial
    short = Trial.model_validate(canonical(trial))
    assert node_key(short, DATA) == key


@given(TRIALS, TRIALS)
def test_other_trials_have_other_keys(one: Trial, other: Trial) -> None:
    one, other = one.resolved(), other.resolved()
    assert (node_key(one, DATA) == node_key(other, DATA)) == (canonical(one) == canonical(other))


@given(RECIPES, st.lists(st.integers(0, 9999), min_size=1, max_size=5, unique=True))
@settings(max_examples=20, deadline=None)  # each builds the net
def test_a_sweep_read_from_its_yaml_is_the_same(recipe: Recipe, seeds: list[int]) -> None:
    spec = SweepSpec(
        name="any", data="synthetic", backbone="resnet18", training=recipe, seeds=tuple(seeds),
        prune={"criterion": "snnl", "ratio": {"choice": [0.1, 0.2]}}, search={"sampler": "grid"},
    )  # fmt: skip
    assert SweepSpec.model_validate(yaml.safe_load(spec.to_yaml())) == spec


def figures(count_GCC: np.ndarray) -> dict:
    return summarise(count_GCC, groups=("a", "b", "c"), classes=("x", "y", "z"))


@given(COUNTS)
def test_metrics_do_not_depend_on_the_order_of_groups_or_classes(count_GCC: np.ndarray) -> None:
    first = figures(count_GCC)
    for order in ([2, 0, 1], [1, 0, 2]):
        by_group = figures(count_GCC[order])
        by_class = figures(count_GCC[:, order][:, :, order])
        for name in ("f1", "f1_diff", "accuracy", "f1_pooled", *GAPS):
            for other in (by_group, by_class):
                assert (other[name] is None) == (first[name] is None)
                if first[name] is not None:
                    assert other[name] == pytest.approx(first[name], abs=1e-12)


@given(COUNTS, st.integers(2, 9))
def test_metrics_are_rates_and_keep_within_their_bounds(count_GCC: np.ndarray, times: int) -> None:
    found, more = figures(count_GCC), figures(count_GCC * times)
    for name in ("f1", "f1_diff", "accuracy", *GAPS):
        if found[name] is None:
            assert name in found["undefined"] or found["num_samples"] == 0
            continue
        assert 0 <= found[name] <= 1
        assert more[name] == pytest.approx(found[name], abs=1e-12)
    if found["eodd"] is not None:  # the signed one lets gaps cancel
        assert found["eodd"] <= found["eodd_hardt"] + 1e-12


@given(arrays(np.int64, (3, 3), elements=st.integers(1, 40)))
def test_groups_that_are_alike_have_no_gap(count_CC: np.ndarray) -> None:
    found = figures(np.stack([count_CC] * 3))
    assert [found[name] for name in (*GAPS, "f1_diff")] == pytest.approx([0] * (len(GAPS) + 1))


@given(POINTS)
def test_the_front_is_what_nobody_dominates(values_NK: np.ndarray) -> None:
    mask = pareto_mask(values_NK)
    for point, kept in zip(values_NK, mask, strict=True):
        assert kept == (not any(dominates(other, point) for other in values_NK))
    assert mask.any()
    assert (pareto_mask(values_NK[mask])).all()
    order = np.random.default_rng(0).permutation(len(values_NK))
    assert (pareto_mask(values_NK[order]) == mask[order]).all()


@given(POINTS)
def test_dominance_is_a_strict_order(values_NK: np.ndarray) -> None:
    for a, b, c in itertools.islice(itertools.product(values_NK, repeat=3), 200):
        assert not (dominates(a, b) and dominates(b, a))
        assert not dominates(a, a)
        assert not (dominates(a, b) and dominates(b, c)) or dominates(a, c)


@given(POINTS)
def test_the_volume_grows_with_points_and_the_front_alone_has_it(values_NK: np.ndarray) -> None:
    reference = np.full(values_NK.shape[1], -5.0)
    whole = hypervolume(values_NK, reference)
    assert hypervolume(values_NK[pareto_mask(values_NK)], reference) == pytest.approx(whole)
    assert hypervolume(values_NK[:-1], reference) <= whole + 1e-9 if len(values_NK) > 1 else True
