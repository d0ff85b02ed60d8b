"""The words of a space: reading, writing, filling, and all points of a finite one."""

import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.words import (
    Choice,
    Integer,
    Number,
    OneOf,
    choice,
    enumerate_all,
    fill,
    integer,
    is_finite,
    number,
    one_of,
    option_labels,
    plain,
    to_yaml,
)
from trainables.data.augment import Augment
from trainables.errors import UserError

SCALARS = st.one_of(
    st.integers(-5, 5), st.floats(-1, 1, allow_nan=False), st.booleans(), st.none(),
    st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=3),
)  # fmt: skip
FINITE_WORDS = st.one_of(
    st.lists(SCALARS, min_size=1, max_size=3, unique_by=repr).map(lambda v: choice(*v)),
    st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda t: integer(t[0], t[0] + t[1])),
)
NAMES = st.sampled_from(["a", "b", "ratio", "criterion"])
FINITE = st.recursive(
    st.one_of(SCALARS, FINITE_WORDS),
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, min_size=1, max_size=2),
        st.lists(inner, min_size=1, max_size=2),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: one_of(*options)),
    ),
    max_leaves=6,
)


def brute_force(template):
    """All filled templates, by another way: a list of values of each part, multiplied out."""
    if isinstance(template, OneOf):
        return [value for option in template.options for value in brute_force(option)]
    if isinstance(template, Choice):
        return list(template.values)
    if isinstance(template, Integer):
        return list(range(template.low, template.high + 1))
    if isinstance(template, dict):
        products = itertools.product(*map(brute_force, template.values()))
        return [dict(zip(template, values, strict=True)) for values in products]
    if isinstance(template, list):
        return [list(values) for values in itertools.product(*map(brute_force, template))]
    return [template]


@settings(max_examples=200, deadline=None)
@given(FINITE)
def test_enumerate_all_is_the_product_of_the_parts(template):
    listed = list(enumerate_all(template, "space"))
    assert [value for _, value in listed] == brute_force(template)
    assert is_finite(template)


@settings(max_examples=200, deadline=None)
@given(FINITE)
def test_the_parameters_of_a_point_lead_back_to_it(template):
    for parameters, value in enumerate_all(template, "space"):
        used = []

        def ask(name, word, parameters=parameters, used=used):
            used.append(name)
            return parameters[name]

        assert fill(template, ask, "space") == value
        assert sorted(used) == sorted(parameters)  # each word of the branch, and no other


@settings(max_examples=200, deadline=None)
@given(FINITE)
def test_yaml_and_back(template):
    text = yaml.safe_dump(to_yaml(template))
    assert plain(yaml.safe_load(text)) == template


def test_real_words_and_back():
    for word in (number(0.1, 1), number(1e-5, 1e-2, log=True), integer(1, 64, log=True)):
        assert plain(yaml.safe_load(yaml.safe_dump(to_yaml(word)))) == word


def test_a_nested_one_of_by_hand():
    template = one_of(
        "none",
        {"name": "snnl", "ratio": choice(0.1, 0.2), "site": one_of("conv", "block")},
        {"name": "random", "n": integer(1, 2)},
    )
    points = [parameters for parameters, _ in enumerate_all(template, "prune")]
    assert points == [
        {"prune": "none"},
        {"prune": "snnl", "prune.snnl.ratio": 0.1, "prune.snnl.site": "conv"},
        {"prune": "snnl", "prune.snnl.ratio": 0.1, "prune.snnl.site": "block"},
        {"prune": "snnl", "prune.snnl.ratio": 0.2, "prune.snnl.site": "conv"},
        {"prune": "snnl", "prune.snnl.ratio": 0.2, "prune.snnl.site": "block"},
        {"prune": "random", "prune.random.n": 1},
        {"prune": "random", "prune.random.n": 2},
    ]


def test_labels_are_distinct():
    options = one_of("snnl", {"name": "snnl"}, {"ratio": 1}, choice(1, 2), {"name": choice("a")})
    labels = option_labels(options)
    assert labels == ["snnl#0", "snnl#1", "2", "3", "4"]


def test_the_short_forms_of_yaml():
    text = "{ratio: {choice: [0.1, 0.2]}, lr: {number: {low: 0.1, high: 1, log: true}}}"
    assert plain(yaml.safe_load(text)) == {
        "ratio": Choice((0.1, 0.2)),
        "lr": Number(0.1, 1.0, log=True),
    }


def test_configs_become_mappings():
    (augment,) = plain([Augment(crop=True)])
    assert augment["crop"] is True
    assert Augment.model_validate(augment) == Augment(crop=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choice(), r"choice needs distinct values but got \[\]"),
        (lambda: choice(1, 2, 1), r"choice needs distinct values but got \[1, 2, 1\]"),
        (lambda: choice({"name": "snnl"}), "choice is between numbers or names .*: use one_of"),
        (lambda: one_of(), "one_of needs at least one option"),
        (lambda: number(2, 1), "number needs low <= high but got low=2, high=1"),
        (lambda: number(0, 1, log=True), "number needs 0 < low <= high but got low=0, high=1"),
        (lambda: integer(3, 1), "integer needs low <= high but got low=3, high=1"),
        (lambda: plain({"choice": "snnl"}), "choice: cannot read 'snnl'"),
        (lambda: plain({"choice": 0.1}), "choice: cannot read 0.1"),
        (lambda: plain({"number": {"low": 1, "hgih": 2}}), "number: cannot read .*hgih"),
        (lambda: plain({"integer": [1, 2]}), r"integer: cannot read \[1, 2\]"),
    ],
)
def test_mistakes_in_one_line(make, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        make()
    assert "\n" not in str(error.value)


def test_a_real_word_has_no_grid():
    template = {"a": choice(1, 2), "b": {"lr": number(0.1, 1)}}
    assert not is_finite(template)
    with pytest.raises(UserError, match=r"sampler grid cannot list b\.lr: use choice"):
        list(enumerate_all(template))
    assert is_finite({"lr": number(0.1, 0.1)})
    assert list(enumerate_all(number(0.1, 0.1), "lr")) == [({"lr": 0.1}, 0.1)]
