"""Parts of other packages: found by entry points, imported when asked for, named when broken."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search_spaces.objectives import objectives
from trainables import packages
from trainables.errors import UserError
from trainables.registry import Registry, baselines, criteria
from trainables.specs import validate
from trainables.trial_spec import DataIdentity, Trial, node_key

GROUP = "fatefront.criteria"
PART = """
from typing import ClassVar, Literal
from trainables.pruning.random import RandomChannels
from trainables.registry import criteria

@criteria.register("{name}")
class Part(RandomChannels):
    class Config(RandomChannels.Config):
        name: Literal["{name}"] = "{name}"
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay a package as pip does: its module, and the metadata with its entry points."""

    def lay(package: str, points: dict[str, str], module: str, version: str = "1.0") -> None:
        folder = tmp_path / package
        info = folder / f"{package}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
        (folder / f"{package}.py").write_text(module)
        monkeypatch.syspath_prepend(str(folder))
        packages.entry.cache_clear()

    yield lay
    packages.entry.cache_clear()
    for module in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[module]
    for name, cls in list(criteria._classes.items()):
        if cls.__module__.startswith("their_"):
            del criteria._classes[name]


def key_of(criterion: str) -> str:
    prune = {"criterion": criterion}
    whole = {"backbone": "resnet18", "baseline": "vanilla", "prune": prune, "n": 1}
    trial = validate(Trial, whole, place="test").resolved("cpu")
    return node_key(trial, DataIdentity("a" * 64, "b" * 64))


def test_a_part_is_known_by_name_and_imported_when_asked_for(install: Install) -> None:
    install("their_part", {"fancy": "their_part:Part"}, PART.format(name="fancy"))
    assert "fancy" in criteria.names()
    assert "their_part" not in sys.modules
    assert criteria.get("fancy").__module__ == "their_part"
    assert criteria.package("fancy") == "their_part 1.0"


def test_built_in_parts_and_those_of_a_user_s_file_have_no_package() -> None:
    assert {criteria.package(name) for name in ("snnl", "none")} == {None}
    assert baselines.package("vanilla") is None
    registry = Registry("thing", "fatefront.things-of-nobody", {})
    registry.register("own")(type("Own", (), {}))
    assert registry.package("own") is None


def test_the_release_is_in_the_keys(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("their_keyed", {"keyed": "their_keyed:Part"}, PART.format(name="keyed"))
    assert criteria.package("keyed") == "their_keyed 1.0"
    first, blind = key_of("keyed"), key_of("random")
    for release in ("their_keyed 1.0.1", "somebody_else 1.0"):
        monkeypatch.setattr(packages, "release", lambda point, release=release: release)
        packages.entry.cache_clear()
        assert criteria.package("keyed") == release
        assert key_of("keyed") != first
        assert key_of("random") == blind


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import not_there", "cannot be loaded: ModuleNotFoundError: No module named 'not_there'"),
        ("1 +", "cannot be loaded: SyntaxError: "),
        ("raise RuntimeError('one\\ntwo')", "cannot be loaded: RuntimeError: one ("),
        ("Other = 1", "cannot be loaded: AttributeError: "),
        ("Part = 1", "is not a class with a `Config`"),
        (PART.format(name="another"), "calls itself 'another'"),
    ],
)
def test_a_broken_package_is_one_line_that_names_it(
    install: Install, module: str, said: str
) -> None:
    install("their_broken", {"broken": "their_broken:Part"}, module)
    with pytest.raises(UserError) as caught:
        criteria.get("broken")
    assert said in str(caught.value)
    assert "package their_broken 1.0, entry point broken = their_broken:Part" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"their_broken 1\.0"):  # as a space names it
        key_of("broken")


def test_a_broken_package_does_not_disturb_who_does_not_ask_for_it(install: Install) -> None:
    install("their_ruin", {"ruin": "their_ruin:Part"}, "raise SystemError")
    assert "ruin" in criteria.names()
    assert criteria.get("snnl").name == "snnl"
    with pytest.raises(UserError, match="did you mean 'ruin'"):
        criteria.get("ruinn")


def test_a_file_of_the_user_s_own_is_not_taken_for_a_package(install: Install) -> None:
    install("their_namesake", {"namesake": "their_namesake:Part"}, PART.format(name="namesake"))
    mine = type("Mine", (), {"__module__": "their_notebook"})
    criteria.register("namesake")(mine)
    assert criteria.get("namesake") is mine
    assert criteria.package("namesake") is None


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install("their_one", {"same": "their_one:Part"}, PART.format(name="same"))
    install("their_two", {"same": "their_two:Part"}, PART.format(name="same"))
    with pytest.raises(UserError, match=r"'same' is brought by two packages, their_one 1\.0 and"):
        criteria.get("same")


def test_the_example_s_entry_points_are_the_groups_that_are_read() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "examples/plugin/pyproject.toml").read_text("utf-8")
    for registry in (baselines, criteria, objectives):
        assert f'[project.entry-points."{registry.group}"]' in text
