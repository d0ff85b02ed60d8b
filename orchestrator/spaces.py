"""From what a user names to a validated sweep: a name, ``file.py:function``, or a YAML; with
``--set`` overrides.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.space_names import built_in_names
from search_spaces.sweep_spec import SweepSpec
from trainables.data.parse import nearest
from trainables.errors import UserError, shortened
from trainables.plain_file import read_user_text
from trainables.specs import validate
from trainables.yaml_text import parse_yaml


def load_space(name: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """The sweep called ``name``, with ``dotted.key=value`` overrides (values are YAML).

    Raises:
        UserError: no such space, or an override does not fit.
    """
    path, _, function = name.partition(":")
    if path.endswith((".yaml", ".yml")):
        document = _read_yaml(Path(path))
    elif path.endswith(".py"):
        document = _call(_module_of_file(Path(path)), function or Path(path).stem, name)
    else:
        document = _call(_built_in(path), function or path, name)
    for override in overrides:
        _apply(document, override)
    return validate(SweepSpec, document, place=name)


def _built_in(name: str) -> ModuleType:
    if name not in built_in_names():
        hint = nearest(name, built_in_names())
        give = " Or give" if hint.endswith("?") else "; or give"
        raise UserError(
            f"unknown search space {name!r}{hint}{give} FILE.py:FUNCTION or a YAML file"
        )
    return importlib.import_module(f"search_spaces.{name}")


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"search space: no such file {str(path)!r}{_nearest_file(path)}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: {_where(error, path)}") from None
    return module


def _nearest_file(path: Path) -> str:
    """The end of an error's line: the space beside it whose name is nearest."""
    try:
        beside = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml", ".py")]
    except OSError:  # no such folder, or none that may be read
        return ""
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f", did you mean {str(path.parent / near[0])!r}?" if near else ""


def _call(module: ModuleType, function: str, place: str) -> dict[str, Any]:
    make = getattr(module, function, None)
    if make is None or not inspect.isfunction(make):
        here = [
            n
            for n, f in inspect.getmembers(module, inspect.isfunction)
            if f.__module__ == module.__name__
        ]
        near = difflib.get_close_matches(function, here, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (it has: {', '.join(here)})"
        raise UserError(f"no function {function!r} in {place}{hint}")
    try:
        space = make()
    except (Exception, SystemExit) as error:
        raise UserError(f"{place}: {_where(error, Path(str(module.__file__)))}") from None
    if not isinstance(space, SweepSpec):
        raise UserError(f"{place} returned {type(space).__name__}, not a SweepSpec")
    return dict(parse_yaml(space.to_yaml(), place))


def _where(error: BaseException, path: Path) -> str:
    """The error in one line, with the line of the user's file it comes from."""
    if isinstance(error, UserError):
        return str(error)
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
    ]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")


def _read_yaml(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path):
        raise UserError(f"search space: no such file {str(path)!r}{_nearest_file(path)}")
    document = parse_yaml(read_user_text(path, "search space"), str(path))
    if not isinstance(document, dict):
        raise UserError(
            f"{path}: a search space is a mapping but this is {type(document).__name__}"
        )
    return document


def _apply(document: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UserError(f"--set needs dotted.key=value but got {override!r}")
    value = parse_yaml(text, f"--set {dotted}: {shortened(text)}")
    place: Any = document
    *parents, last = dotted.split(".")
    if not all((*parents, last)):
        raise UserError(f"--set {dotted}: a name is empty, dotted.key=value is needed")
    for part in parents:
        if (
            isinstance(place, dict)
            and isinstance(place.get(part), str)
            and part in ("baseline", "prune", "backbone")
        ):
            place[part] = {"name": place[part]}
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if place is None:
            raise UserError(f"--set {dotted}: {part!r} has no fields")
    if not isinstance(place, dict):
        raise UserError(f"--set {dotted}: {parents[-1]!r} has no fields")
    place[last] = value
