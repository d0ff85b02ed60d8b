"""Names of search spaces, known without importing any: for the shell's completion."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from pathlib import Path

from orchestrator.completion import beside, complete_sweep

NOT_SPACES = {"words", "sweep_spec", "parts", "json_schema", "objectives"}
"""Modules of the package that are what spaces are made of."""


def built_in_names() -> list[str]:
    """Names of the spaces that come with the package."""
    found = importlib.util.find_spec("search_spaces")
    places = list(found.submodule_search_locations or ()) if found else []
    return sorted({module.name for module in pkgutil.iter_modules(places)} - NOT_SPACES)


def functions_of(source: str) -> list[str]:
    """Functions of a file that say they make a space."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.returns is not None
        and ast.unparse(node.returns).endswith("SweepSpec")
    ]


def complete_space(incomplete: str) -> list[str]:
    """What a word may become: a name, ``NAME:FUNCTION``, a YAML file, ``FILE.py:FUNCTION``."""
    name, colon, _ = incomplete.partition(":")
    if colon:
        path = Path(name) if name.endswith(".py") else _file(name)
        if path is None or not path.is_file():
            return []
        made = functions_of(path.read_text(errors="replace"))
        return [word for f in made if (word := f"{name}:{f}").startswith(incomplete)]
    names = [known for known in built_in_names() if known.startswith(incomplete)]
    return [*names, *_files(incomplete)]


def complete_space_or_sweep(incomplete: str) -> list[str]:
    """A space, or the folder of a sweep."""
    sweeps = [word for word in complete_sweep(incomplete) if not word.endswith("/")]
    return [word for word in complete_space(incomplete) if word.rstrip("/") not in sweeps] + sweeps


def _file(name: str) -> Path | None:
    found = importlib.util.find_spec("search_spaces")
    if found is None or name not in built_in_names():
        return None
    return Path(next(iter(found.submodule_search_locations or ()))) / f"{name}.py"


def _files(incomplete: str) -> list[str]:
    """Files and folders that lead to some, as the shell would write them."""
    return [
        word
        for word, path in beside(incomplete)
        if path.is_dir() or path.suffix in (".yaml", ".yml", ".py")
    ]
