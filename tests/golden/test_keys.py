"""Keys of nodes: what is in them, and a golden file of defaults and versions.

Write ``keys.json`` again with ``python tests/golden/test_keys.py`` after reading what the failing
test says.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainables.data.augment import Augment
from trainables.registry import backbones, baselines, criteria
from trainables.specs import Spec, validate
from trainables.trial_spec import (
    STEP_VERSIONS,
    Compute,
    DataIdentity,
    EarlyStopping,
    Prune,
    Recipe,
    Trial,
    configuration_key,
    digest,
    node_key,
    step_document,
    uses_group,
)

GOLDEN = Path(__file__).with_name("keys.json")
DATA = DataIdentity("a" * 64, "b" * 64)
OTHER_PIXELS = DataIdentity("c" * 64, "b" * 64)
OTHER_GROUPS = DataIdentity("a" * 64, "d" * 64)

TRIALS: dict[str, dict[str, Any]] = {
    "root": {},
    "none": {"prune": {"criterion": "none"}, "n": 2, "seed": 1},
    "snnl": {
        "backbone": "vgg11",
        "prune": {
            "criterion": {"name": "snnl", "temperature": 0.5},
            "ratio": 0.05,
            "finetune": {"epochs": 20, "augment": {"degrees": 30}},
        },
        "n": 3,
    },
}


def trial(**fields: Any) -> Trial:
    whole = {"backbone": "resnet18", "baseline": "vanilla"} | fields
    return validate(Trial, whole, place="test").resolved("cpu")


def pruned(n: int = 1, seed: int = 0, compute: dict | None = None, **prune: Any) -> Trial:
    return trial(prune={"criterion": "snnl"} | prune, n=n, seed=seed, compute=compute or {})


def defaults(config: type[Spec]) -> dict[str, Any]:
    """Default of each field as JSON; fields without one are ``required``.

    A nested spec at its own class's defaults is named only: it has a pin of its own.
    """
    out: dict[str, Any] = {}
    for name, info in config.model_fields.items():
        value = info.get_default(call_default_factory=True)
        if info.is_required():
            value = "required"
        elif isinstance(value, Spec):
            plain = value == type(value)()
            value = f"{type(value).__name__}()" if plain else value.model_dump(mode="json")
        out[name] = value
    return dict(json.loads(json.dumps(out)))


def parts() -> dict[str, tuple[int | dict[str, int], type[Spec]]]:
    """Everything whose defaults enter a key, with the VERSION that speaks for it."""
    found: dict[str, tuple[int | dict[str, int], type[Spec]]] = {
        f"step {cls.__name__}": (dict(STEP_VERSIONS), cls)
        for cls in (Trial, Prune, Recipe, EarlyStopping, Augment, Compute)
    }
    for registry in (backbones, baselines, criteria):
        for name in registry.names():
            cls = registry.get(name)
            if cls.__module__.startswith("trainables."):  # not those of other installed packages
                found[f"{registry.kind} {name}"] = (cls.VERSION, cls.Config)
    return found


def current() -> dict[str, Any]:
    """What ``keys.json`` holds, computed from the code."""
    pinned = {}
    for name, (version, config) in parts().items():
        fields = defaults(config)
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        pinned[name] = {"version": version, "sha256": sha256, "defaults": fields}
    keys = {name: node_key(trial(**fields), DATA) for name, fields in TRIALS.items()}
    return {"parts": pinned, "keys": keys}


def difference(name: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> str | None:
    """What to do about a part that is not as pinned, or None."""
    rewrite = "then run `python tests/golden/test_keys.py`"
    if old == new:
        return None
    if old is None or new is None:
        return f"{name} is {'new' if old is None else 'gone'}: {rewrite}"
    moved = [
        f"{field} was {value!r}, is {new['defaults'].get(field, 'gone')!r}"
        for field, value in old["defaults"].items()
        if new["defaults"].get(field, "gone") != value
    ]
    added = sorted(set(new["defaults"]) - set(old["defaults"]))
    if old["version"] == new["version"]:
        if moved:
            return (
                f"{name}: defaults moved but VERSION did not ({'; '.join(moved)}). "
                "Stored keys would name other results: raise VERSION (STEP_VERSIONS for steps), "
                f"{rewrite}"
            )
        return (
            f"{name}: new fields {added} and the same VERSION. If their defaults compute what was "
            f"computed before, {rewrite}; else raise VERSION first"
        )
    if not moved and not added:
        return (
            f"{name}: VERSION moved alone, {old['version']} to {new['version']}: every stored "
            "node of it will be computed again. If the same spec now computes something else, "
            f"{rewrite}"
        )
    return f"{name}: defaults and VERSION moved together: {rewrite}"


def test_defaults_and_versions_are_as_pinned() -> None:
    old, new = json.loads(GOLDEN.read_text("utf-8"))["parts"], current()["parts"]
    found = [difference(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    problems = [text for text in found if text]
    assert not problems, "\n".join(problems)
    for name, entry in old.items():
        text = json.dumps(entry["defaults"], sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == entry["sha256"], name


def test_the_pin_covers_every_built_in_part_and_step() -> None:
    pinned = json.loads(GOLDEN.read_text("utf-8"))["parts"]
    assert {"criterion none", "criterion random", "criterion snnl", "baseline vanilla"} <= set(
        pinned
    )
    assert {"backbone resnet18", "backbone vgg11", "backbone vgg11_bn"} <= set(pinned)
    assert pinned["step Recipe"]["version"] == STEP_VERSIONS


@pytest.mark.parametrize("name", TRIALS)
def test_golden_keys(name: str) -> None:
    pinned = json.loads(GOLDEN.read_text("utf-8"))["keys"][name]
    assert node_key(trial(**TRIALS[name]), DATA) == pinned, (
        f"the key of {name!r} moved: stored nodes will not be found. If that is meant "
        "(a VERSION was raised, another canonical form), run `python tests/golden/test_keys.py`"
    )


def test_the_message_says_which_of_the_two_moved() -> None:
    old = {"version": 1, "sha256": "", "defaults": {"a": 1}}
    assert difference("x", old, old) is None
    moved = difference("x", old, old | {"defaults": {"a": 2}})
    assert moved is not None
    assert "a was 1, is 2" in moved
    assert "raise VERSION" in moved
    alone = difference("x", old, old | {"version": 2})
    assert alone is not None
    assert "VERSION moved alone" in alone
    added = difference("x", old, old | {"defaults": {"a": 1, "b": 0}})
    assert added is not None
    assert "new fields ['b']" in added
    both = difference("x", old, {"version": 2, "sha256": "", "defaults": {"a": 2}})
    assert both is not None
    assert "together" in both


def test_a_key_is_the_hash_of_the_written_out_document() -> None:
    root = {
        "kind": "train",
        "compute": {"precision": "float32"},
        "backbone": {"name": "resnet18"},
        "baseline": {"name": "vanilla"},
        "versions": {"step": 2, "baseline": 1, "backbone": 1},
        "parents": [],
        "data": "a" * 64,
        "seed": 0,
    }

    def sha(document: dict) -> str:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    assert node_key(trial(), DATA) == sha(root)
    assert node_key(pruned(ratio=0.1), DATA) == sha(
        {
            "kind": "prune",
            "compute": {"precision": "float32"},
            "prune": {
                "criterion": {"name": "snnl"},
                "ratio": 0.1,
                "layer": "layer4.1.conv2",
                "site": "block",
            },
            "n": 1,
            "versions": {"step": 2, "baseline": 1, "criterion": 3},
            "parents": [sha(root)],
            "data": "a" * 64,
            "seed": 0,
            "groups": "b" * 64,
        }
    )  # fmt: skip


def test_defaults_written_out_give_the_same_key() -> None:
    explicit = pruned(
        criterion={"name": "snnl", "temperature": 1, "normalise": "chance"}, ratio=0.02,
        surgery="cut", finetune=Recipe().model_dump(mode="json"), finetune_loss="baseline",
    )  # fmt: skip
    assert node_key(explicit, DATA) == node_key(pruned(), DATA)


def test_auto_resolved_equals_explicit() -> None:
    explicit = pruned(layer="layer4.1.conv2", site="block", compute={"precision": "float32"})
    assert node_key(explicit, DATA) == node_key(pruned(), DATA)
    assert configuration_key(explicit) == configuration_key(pruned())
    other_site = pruned(site="conv")
    assert node_key(other_site, DATA) != node_key(pruned(), DATA)


def test_fields_that_do_not_matter_are_dropped() -> None:
    plain = node_key(pruned(criterion="none"), DATA)
    for field in (
        {"ratio": 0.3},
        {"site": "conv"},
        {"layer": "conv1"},
        {"surgery": "weight_mask"},
    ):
        assert node_key(pruned(criterion="none", **field), DATA) == plain
        assert node_key(pruned(criterion="random", **field), DATA) != node_key(
            pruned(criterion="random"), DATA
        )
    assert node_key(pruned(criterion="none", finetune={"epochs": 3}), DATA) != plain


def test_the_attribute_is_in_the_key_only_where_it_is_read() -> None:
    blind = [trial(), pruned(criterion="none"), pruned(criterion="random", n=2)]
    reading = [
        pruned(),
        pruned(n=2),
        pruned(criterion="none", finetune={"sampling": "class_group"}),
        trial(baseline={"name": "vanilla", "training": {"sampling": "group"}}),
    ]
    for each in blind:
        assert not uses_group(each)
        assert node_key(each, OTHER_GROUPS) == node_key(each, DATA)
    for each in reading:
        assert uses_group(each)
        assert node_key(each, OTHER_GROUPS) != node_key(each, DATA)
    # a child that reads no group still has a parent that did
    root = trial(baseline={"name": "vanilla", "training": {"sampling": "group"}})
    child = root.model_copy(update={"prune": pruned(criterion="none").prune, "n": 1})
    assert node_key(child, OTHER_GROUPS) != node_key(child, DATA)


def test_data_seed_precision_threads_and_chain_are_in_the_key() -> None:
    base = node_key(pruned(), DATA)
    others = [
        node_key(pruned(), OTHER_PIXELS),
        node_key(pruned(seed=1), DATA),
        node_key(pruned(compute={"precision": "bf16"}), DATA),
        node_key(pruned(compute={"threads": 2}), DATA),
        node_key(pruned(n=2), DATA),
        node_key(pruned().parents[0], DATA),
        node_key(pruned(criterion="random"), DATA),
        node_key(pruned(ratio=0.03), DATA),
        node_key(pruned(finetune={"learning_rate": 0.02}), DATA),
    ]
    assert len({base, *others}) == len(others) + 1
    # vanilla's loss is cross-entropy: both ways to say so are one node
    assert node_key(pruned(finetune_loss="cross_entropy"), DATA) == base
    # the parent's own spec is in the child's key through the parent's key
    changed = trial(
        baseline={"name": "vanilla", "training": {"epochs": 7}},
        prune={"criterion": "snnl"},
        n=1,
    )
    assert node_key(changed, DATA) != base


def test_a_version_is_in_the_keys_of_what_it_speaks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [trial(), pruned(), pruned(criterion="random")]
    before = [node_key(t, DATA) for t in arms]
    monkeypatch.setattr(criteria.get("snnl"), "VERSION", 99)
    assert [node_key(t, DATA) == old for t, old in zip(arms, before, strict=True)] == [
        True, False, True,
    ]  # fmt: skip
    monkeypatch.setitem(STEP_VERSIONS, "train", 99)
    assert all(node_key(t, DATA) != old for t, old in zip(arms, before, strict=True))


def test_the_content_of_a_weights_file_is_in_the_key_and_its_path_is_not(tmp_path: Path) -> None:
    tensor = torch.zeros(2)
    keys = []
    for name, value in (("a", tensor), ("b", tensor), ("c", tensor + 1)):
        save_file({"w": value}, tmp_path / f"{name}.safetensors")
        backbone = {"name": "resnet18", "weights": str(tmp_path / f"{name}.safetensors")}
        keys.append(node_key(trial(backbone=backbone), DATA))
        assert str(tmp_path) not in json.dumps(step_document(trial(backbone=backbone)))
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != node_key(trial(), DATA)
    imagenet = trial(backbone={"name": "resnet18", "weights": "imagenet"})
    assert node_key(imagenet, DATA) not in {*keys, node_key(trial(), DATA)}


def test_a_configuration_has_no_seed_and_no_data() -> None:
    assert configuration_key(pruned(seed=3)) == configuration_key(pruned())
    assert configuration_key(pruned(n=2)) != configuration_key(pruned())
    assert configuration_key(pruned(ratio=0.1)) != configuration_key(pruned())


def test_a_digest_does_not_depend_on_the_order_of_fields() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"wrote {GOLDEN}")
