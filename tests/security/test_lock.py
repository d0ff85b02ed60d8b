"""The lock file: every package with one version and its hashes, no index named, as constrained."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)( ; [^\\]+)? \\$")


def locked() -> dict[str, str]:
    """Name -> version of every package in the lock file."""
    text = (ROOT / "requirements.lock").read_text()
    pins = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2].strip()):
        head, *hashes = block.split("\n")
        match = PIN.fullmatch(head)
        assert match, head
        assert hashes
        for line in hashes:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
        pins[match[1].lower().replace("_", "-")] = match[2]
    assert "://" not in text
    return pins


def asked(extra: str = "dev") -> dict[str, Requirement]:
    """Name -> what the project asks for, with the tools of development and what those name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for line in project["dependencies"] + project["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == project["name"]:
            for name in requirement.extras:
                found |= asked(name)
        else:
            found[requirement.name.lower().replace("_", "-")] = requirement
    return found


def test_every_package_is_pinned_with_hashes() -> None:
    pins = locked()
    assert {"torch", "ray", "mlflow", "optuna", "pyyaml", "pillow", "safetensors"} <= set(pins)
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, equals, version = line.partition("==")
        if equals and not line.startswith("#"):
            name = name.lower().replace("_", "-")
            assert pins.get(name, version) == version, line


def test_the_lock_has_all_that_the_project_asks_for() -> None:
    """`make lock` was run since a dependency was added."""
    pins = locked()
    assert len(asked()) > 40
    for name, requirement in asked().items():
        assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(pins[name], prereleases=True), requirement


def test_every_pin_can_be_installed_by_the_oldest_python_that_is_named() -> None:
    """Debian 12 has Python 3.11.2: a pin that wants a later one ends `make demo` with an error."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    looked_at, refused = 0, []
    for name, version in locked().items():
        try:
            found = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        if found["Version"] == version:
            looked_at += 1
            wanted = found.json.get("requires_python", "")
            if not SpecifierSet(wanted).contains("3.11.0"):
                refused.append(f"{name}=={version} wants Python {wanted}")
    assert looked_at > 100
    assert refused == []
