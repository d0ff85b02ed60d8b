"""The one direction in which packages import, imports inside functions included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"trainables", "search_spaces", "orchestrator"}
SWEEP_STACK = {"ray", "optuna", "mlflow"}
FORBIDDEN = {
    "trainables": (OURS - {"trainables"}) | SWEEP_STACK,
    "search_spaces": {"orchestrator"} | SWEEP_STACK,
    "orchestrator": set[str](),
}


def imported(source: str) -> set[str]:
    """Top-level packages a module imports anywhere, also by ``import_module("...")``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                found.add(str(first.value).partition(".")[0])
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_the_walk_sees_every_way_to_import() -> None:
    source = """
import os, ray.tune as tune
from optuna.samplers import TPESampler
def lazily():
    from mlflow import tracking
    importlib.import_module("search_spaces.words")
    __import__("orchestrator")
from . import sibling
"""
    expected = {"os", "ray", "optuna", "mlflow", "search_spaces", "orchestrator"}
    assert imported(source) == expected


@pytest.mark.parametrize("package", ["trainables", "search_spaces"])
def test_nothing_imports_against_the_direction(package: str) -> None:
    files = modules(package)
    assert len(files) >= 3
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in files
        if (bad := imported(path.read_text("utf-8")) & FORBIDDEN[package])
    }
    assert wrong == {}


def test_the_sweep_stack_is_imported_by_the_orchestrator() -> None:
    """Also shows that the walk above looks at real files and would find these names."""
    found = set().union(*(imported(path.read_text("utf-8")) for path in modules("orchestrator")))
    assert found >= {"ray", "optuna", "trainables", "search_spaces"}


def test_relative_imports_do_not_leave_their_package() -> None:
    for package in OURS:
        for path in modules(package):
            depth = len(path.relative_to(ROOT).parts) - 1
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    assert node.level <= depth, f"{path} line {node.lineno}"


def test_nothing_unpickles() -> None:
    """A model or table from elsewhere must not run code (design: decisions)."""
    for path in modules("trainables"):
        source = path.read_text("utf-8")
        assert not imported(source) & {"pickle", "cloudpickle", "joblib", "dill"}, path
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if call == "torch.load":
                assert options.get("weights_only") == "True", f"{path} line {node.lineno}"
            if call in ("np.load", "numpy.load"):
                assert options.get("allow_pickle", "False") == "False", (
                    f"{path} line {node.lineno}"
                )
