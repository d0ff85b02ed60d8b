"""Specs: canonical form, the user's mistakes in one line, and what a trial resolves to."""

from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field

from trainables.errors import UserError
from trainables.pruning.snnl import SNNL
from trainables.registry import Registry, backbones, criteria
from trainables.specs import Spec, canonical, part, validate
from trainables.trial_spec import Compute, Prune, Recipe, Trial


class Inner(Spec):
    depth: int = 3
    name: str = "inner"


class Outer(Spec):
    width: float = Field(1.0, gt=0)
    inner: Inner = Inner(depth=5)
    sizes: tuple[int, ...] = (1, 2)


def test_canonical_leaves_defaults_out_and_keeps_names() -> None:
    assert canonical(Outer()) == {}
    assert canonical(Outer(width=1)) == {}  # an int where the default is a float
    assert canonical(Outer(width=2, sizes=(3,))) == {"width": 2.0, "sizes": [3]}
    assert canonical(Inner()) == {"name": "inner"}


def test_canonical_tells_a_nested_default_from_the_nested_class_default() -> None:
    """Outer's default inner has depth 5, Inner's own default is 3."""
    assert canonical(Outer(inner=Inner(depth=5))) == {}
    assert canonical(Outer(inner=Inner(depth=3))) == {"inner": {"name": "inner"}}
    assert canonical(Outer(inner=Inner(depth=4))) == {"inner": {"name": "inner", "depth": 4}}


def test_canonical_uses_what_a_field_stands_for(tmp_path: Any) -> None:
    class File(Spec):
        path: str = ""

        def key_fields(self) -> dict[str, Any]:
            return {"path": "content"}

    assert canonical(File(path="/a")) == canonical(File(path="/b")) == {"path": "content"}


def test_specs_are_frozen_and_equal_by_value() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().epochs = 3  # type: ignore[misc]
    assert hash(Recipe(epochs=3)) == hash(Recipe(epochs=3))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"epoch": 3}, "unknown field 'epoch', did you mean 'epochs'? (here)"),
        (
            {"augment": {"degree": 3}},
            "unknown field 'augment.degree', did you mean 'degrees'? (here)",
        ),
        ({"epochs": -1}, "epochs: input should be greater than or equal to 0 but got -1 (here)"),
        (
            {"schedule": "stpe"},
            "schedule: input should be 'constant', 'step' or 'cosine' but got 'stpe', "
            "did you mean 'step'? (here)",
        ),
        (
            {"epochs": "many", "gamma": 2},
            "epochs: input should be a valid integer, unable to parse string as an integer "
            "but got 'many' (here); gamma: input should be "
            "less than or equal to 1 but got 2 (here)",
        ),
    ],
)
def test_mistakes_name_value_limit_place_and_nearest(mapping: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Recipe, mapping, place="here")
    assert str(caught.value) == message


def test_an_unknown_field_without_a_near_one_lists_all() -> None:
    said = r"unknown field 'xyzzy' \(known: precision, threads, world_size\) \(here\)"
    with pytest.raises(UserError, match=said):
        validate(Compute, {"xyzzy": 1}, place="here")


@pytest.mark.parametrize("ratio", [0, 1, 1.2, -0.1])
def test_prune_ratio_is_checked(ratio: float) -> None:
    with pytest.raises(
        UserError, match=rf"prune ratio must be in \(0, 1\) but got {float(ratio)} \(wide\)"
    ):
        validate(Prune, {"criterion": "snnl", "ratio": ratio}, place="wide")


def test_a_part_is_a_name_a_mapping_or_a_config() -> None:
    configs = [
        validate(Prune, {"criterion": value}, place="x").criterion
        for value in ("snnl", {"name": "snnl"}, SNNL.Config())
    ]
    assert configs == [SNNL.Config()] * 3
    assert all(type(config) is SNNL.Config for config in configs)
    prune = validate(Prune, {"criterion": {"name": "snnl", "temperature": 2}}, place="x")
    assert validate(Prune, prune.model_dump(mode="json"), place="x") == prune


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ("snnll", "unknown criterion 'snnll', did you mean 'snnl'?"),
        (
            {"name": "snnl", "temprature": 1},
            "unknown field 'temprature', did you mean 'temperature'?",
        ),
        (
            {"name": "snnl", "temperature": 0},
            "temperature: input should be greater than 0 but got 0",
        ),
        (3, "a criterion needs a name (known: "),
        ({"temperature": 1}, "a criterion needs a name (known: "),
    ],
)
def test_mistakes_inside_a_part_are_named(criterion: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Prune, {"criterion": criterion}, place="here")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_registry_finds_by_name_and_refuses_a_second_of_a_name() -> None:
    registry = Registry("thing", "fatefront.things-of-nobody", {})

    @registry.register("one")
    class One(Spec):
        name: Literal["one"] = "one"
        Config: ClassVar[type[Spec]]

    assert registry.names() == ["one"]
    assert registry.get("one") is One
    with pytest.raises(ValueError, match="thing 'one' is registered twice"):
        registry.register("one")(type("Other", (), {}))
    with pytest.raises(UserError, match=r"unknown thing 'on', did you mean 'one'\?"):
        registry.get("on")
    assert part(registry) is not None


def trial(**fields: Any) -> Trial:
    return validate(Trial, {"backbone": "resnet18", "baseline": "vanilla"} | fields, place="test")


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vgg11_bn"])
def test_auto_and_last_become_what_they_stand_for(name: str) -> None:
    resolved = trial(backbone=name, prune={"criterion": "snnl"}, n=1).resolved("cpu")
    assert resolved.prune is not None
    assert resolved.prune.layer == backbones.get(name).last_conv
    assert resolved.prune.site == {"resnet18": "block"}.get(name, "conv")
    assert resolved.compute.precision == "float32"
    assert trial().resolved("cuda:0").compute.precision == "bf16"
    assert resolved.resolved("cpu") == resolved


def test_n_and_prune_go_together() -> None:
    for fields in ({"n": 1}, {"prune": {"criterion": "snnl"}}):
        with pytest.raises(UserError, match="n > 0 needs `prune`, n = 0 has none"):
            trial(**fields)


def test_parents_are_the_chain_down_to_the_root() -> None:
    third = trial(prune={"criterion": "snnl"}, n=3, seed=4)
    assert [t.n for t in third.chain] == [0, 1, 2, 3]
    assert third.parents[0].prune == third.prune
    assert third.chain[0] == trial(seed=4)
    assert {t.seed for t in third.chain} == {4}
    assert third.label() == "vanilla > snnl 2 % x 3 (seed 4)"


def test_a_trial_reads_back_from_its_json() -> None:
    whole = trial(
        prune={"criterion": {"name": "snnl", "temperature": 0.5}, "finetune": {"epochs": 2}}, n=2
    )
    assert validate(Trial, whole.model_dump(mode="json"), place="node") == whole
    assert set(criteria.names()) >= {"none", "random", "snnl"}
