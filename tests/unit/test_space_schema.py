"""The JSON Schema by which editors check spaces agrees with what `plan` reads."""

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from sweep_runs import SPACE
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.spaces import built_in_names, load_space
from search_spaces.json_schema import as_text, shipped_schema, space_schema
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError
from trainables.registry import backbones, baselines, criteria, datasets
from trainables.specs import validate

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = Draft202012Validator(json.loads(Path(shipped_schema()).read_text()))
BASE = yaml.safe_load(load_space("quickstart").to_yaml())


def space_names() -> list[str]:
    found = []
    for name in built_in_names():
        module = importlib.import_module(f"search_spaces.{name}")
        own = inspect.getmembers(module, inspect.isfunction)
        found += [f"{name}:{f}" for f, make in own if make.__module__ == module.__name__]
    return found


def problems(document: object) -> list[str]:
    return [f"{e.json_path}: {e.message[:150]}" for e in VALIDATOR.iter_errors(document)]


def is_read(document: dict) -> bool:
    try:
        validate(SweepSpec, document, place="test")
    except UserError:
        return False
    return True


def test_the_shipped_file_is_what_the_code_gives():
    """After a change: `fatefront schema --to search_spaces/space.schema.json`."""
    assert as_text(space_schema(installed=False)) == Path(shipped_schema()).read_text()


def test_it_is_a_schema():
    Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("name", space_names())
def test_shipped_spaces_fit(name):
    assert problems(yaml.safe_load(load_space(name).to_yaml())) == []


def test_there_are_spaces_to_fit():
    assert len(space_names()) >= 10
    assert problems(SPACE) == []


@pytest.mark.parametrize("registry", [backbones, baselines, criteria, datasets])
def test_every_part_is_known(registry):
    text = Path(shipped_schema()).read_text()
    kind = registry.kind.replace(" ", "_")
    for name in registry.builtin_names():
        assert f'"{kind} {name}"' in text


def mappings(document: object, path: tuple = ()) -> list[tuple]:
    """Paths of all mappings with fields."""
    if isinstance(document, list):
        return [p for i, item in enumerate(document) for p in mappings(item, (*path, i))]
    if not isinstance(document, dict):
        return []
    inner = [p for key, item in document.items() for p in mappings(item, (*path, key))]
    return [path, *inner]


def with_key(document: dict, path: tuple, key: str) -> dict:
    copy = json.loads(json.dumps(document))
    place = copy
    for step in path:
        place = place[step]
    place[key] = 1
    return copy


@pytest.mark.parametrize("name", ["quickstart", "ham10000:methods", "ham10000:paper_switches"])
def test_a_key_that_is_none_is_refused_wherever_it_stands(name):
    document = yaml.safe_load(load_space(name).to_yaml())
    paths = mappings(document)
    assert len(paths) > 8
    for path in paths:
        if path[-1:] in (("attributes",), ("thresholds",)):
            continue  # their keys are the user's own
        assert problems(with_key(document, path, "strange")), path


BOTH = [
    ({}, True),
    ({"prune": "snnl"}, True),
    ({"prune": {"name": "snnl", "temperature": {"choice": [1, 2]}, "ratio": 0.1}}, True),
    ({"prune": {"criterion": {"choice": ["snnl", "hsic"]}, "layer": ["last"]}}, True),
    ({"prune": {"one_of": ["snnl", {"criterion": "hsic", "ratio": 0.1}]}}, True),
    ({"prune": {"criterion": "snnl", "ratio": {"number": {"low": 0.1, "high": 0.2}}},
      "search": {"sampler": "tpe"}}, True),
    ({"baseline": {"one_of": ["mfd", {"name": "hsic", "strength": {"choice": [1, 2]}}]}}, True),
    ({"baseline": {"name": "obd", "source": "hsic"}}, True),
    ({"data": {"name": "table", "path": "a.csv", "attribute": "sex", "split": "lesion"}}, True),
    ({"data": "synthetic", "backbone": {"name": "vgg11_bn"}}, True),
    ({"unknown": 1}, False),
    ({"name": "a b"}, False),
    ({"iterations": 0}, False),
    ({"prune": "snll"}, False),
    ({"prune": {"name": "snnl", "temprature": 1}}, False),
    ({"prune": {"criterion": "snnl", "ration": 0.1}}, False),
    ({"prune": {"criterion": "snnl", "ratio": 2}}, False),
    ({"prune": {"criterion": "snnl", "ratio": {"chioce": [0.1]}}}, False),
    ({"prune": {"criterion": "snnl", "finetune": {"epoch": 1}}}, False),
    ({"baseline": "vanila"}, False),
    ({"baseline": {"name": "hsic", "strenght": 1}}, False),
    ({"baseline": {"name": "obd", "source": "hsci"}}, False),
    ({"backbone": "resnet19"}, False),
    ({"data": {"name": "table", "path": "a", "attribute": "b", "lable": "x"}}, False),
    ({"data": {"name": "table", "attribute": "b"}}, False),
    ({"training": {"epochs": "many"}}, False),
    ({"search": {"sampler": "gird"}}, False),
    ({"search": {"objectives": ["f1", "fate"]}}, False),
    ({"controls": ["nothing"]}, False),
    ({"reference": "vanila"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("change", "fits"), BOTH)
def test_it_agrees_with_what_plan_reads(change, fits):
    assert (problems(BASE | change) == []) is fits
    assert is_read(BASE | change) is fits


def test_yaml_in_the_documentation_fits():
    blocks = []
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        blocks += re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    spaces = [d for d in map(yaml.safe_load, blocks) if isinstance(d, dict) and "backbone" in d]
    for document in spaces:
        assert problems(document) == []


def test_the_verb_prints_it_and_the_line_for_editors(tmp_path):
    shown = CliRunner().invoke(app, ["schema"])
    assert json.loads(shown.stdout)["title"] == "a search space of fatefront"
    written = CliRunner().invoke(app, ["schema", "--to", str(tmp_path / "s.json")])
    assert written.stdout == f"# yaml-language-server: $schema={tmp_path / 's.json'}\n"
    assert (tmp_path / "s.json").read_text() == shown.stdout
    refused = CliRunner().invoke(app, ["schema", "--to", str(tmp_path / "no" / "s.json")])
    assert refused.exit_code == 2
