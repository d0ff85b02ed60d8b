"""The page about data names every data set and option, and its examples are accepted."""

import re
from pathlib import Path

import pytest
import yaml

from orchestrator.datasets.sources import SOURCES
from trainables.data.darken import Darken
from trainables.data.load import parse_data
from trainables.registry import datasets

PAGE = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text()
CODE = re.findall(r"`([^`\n]+)`", PAGE)
WORDS = {word for code in CODE for word in re.split(r"[\s,:()\[\]{}]+", code)}


@pytest.mark.parametrize("name", ["ham10000", "isic2019", "fitzpatrick17k", "pad_ufes_20",
                                  "table", "synthetic"])  # fmt: skip
def test_every_option_of_a_data_set_is_named(name: str) -> None:
    config = datasets.get(name).Config
    assert set(config.model_fields) - {"name"} - WORDS == set()
    assert {name, *config.ATTRIBUTES} - WORDS == set()


def test_every_option_of_darken_is_named_with_its_default() -> None:
    section = PAGE[PAGE.index("## Semi-synthetic") :]
    for field, info in Darken.model_fields.items():
        default = info.get_default(call_default_factory=True)
        row = re.search(rf"\| `{field}` \| ([^|]+) \|", section)
        assert row is not None
        numbers = tuple(map(float, row[1].replace("none", "").replace(",", " ").split()))
        assert numbers == (default if isinstance(default, tuple) else (default,)), field


def test_the_examples_are_data_sets() -> None:
    examples = re.findall(r"\{name: .*\}", PAGE)
    assert len(examples) >= 5
    found = set()
    for line in examples:
        for text in re.findall(r"\{name: (?:[^{}]|\{[^{}]*\})*\}", line):
            found.add(parse_data(yaml.safe_load(text)).name)
    assert found == {"ham10000", "isic2019", "fitzpatrick17k"}


def test_the_page_has_the_licence_of_each_source() -> None:
    for name, source in SOURCES.items():
        row = re.search(rf"\| `{name}` .*", PAGE)
        assert row is not None
        assert re.match(r"(annotations )?CC BY[-NCSA]* \d\.\d", source.licence)[0] in row[0]


def test_links_inside_the_page() -> None:
    anchors = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
               for h in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}  # fmt: skip
    targets = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert targets
    assert set(targets) <= anchors
