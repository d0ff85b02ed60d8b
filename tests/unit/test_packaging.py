"""What stands beside the code: versions, licence, citation, and what stored trials depend on."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from trainables.trial_spec import STEP_VERSIONS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_citation_is_that_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)  # what the format asks for
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert (ROOT / "LICENSE").read_text("utf-8").startswith(f"{PROJECT['license']} License")


def test_the_changelog_names_every_version_that_invalidates_stored_trials() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = text.partition("## What invalidates stored trials")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) `(\w+)` \| (\d+) \|", section, re.M)
    named: dict[str, int] = {}
    for kind, name, version in rows:
        named[f"{kind} {name}"] = max(int(version), named.get(f"{kind} {name}", 1))
    pinned = json.loads((ROOT / "tests/golden/keys.json").read_text("utf-8"))["parts"]
    current = {
        name: part["version"] for name, part in pinned.items() if not name.startswith("step ")
    } | {f"step {name}": version for name, version in STEP_VERSIONS.items()}
    assert named == {name: version for name, version in current.items() if version > 1}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_pages_beside_the_code_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target


def test_extras_that_pages_name_exist() -> None:
    extras = PROJECT["optional-dependencies"]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text("utf-8") for page in pages]
    named = {name for text in texts for name in re.findall(r"fatefront\[(\w+)\]", text)}
    assert named - {"NAME"} <= set(extras)
    assert {"gpu", "docs", "isic", "dashboard"} <= set(extras)
    text = (ROOT / "docs/start.md").read_text("utf-8")
    inner = {"dev", "fuzz", "browser", "fetch"}  # for who works on it; another name of isic
    assert [name for name in extras if name not in inner and f"`{name}`" not in text] == []
