"""From a mapping (YAML, JSON) to a typed data config, with errors a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from trainables.data.base import DataConfig
from trainables.errors import UserError
from trainables.registry import datasets


def parse_data(mapping: Mapping[str, Any]) -> DataConfig:
    """The config of the data set that ``mapping["name"]`` names.

    Raises:
        UserError: no such data set, unknown fields or values out of range; all in one line.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"data must be a mapping with a name but got {mapping!r}")
    name = mapping.get("name")
    if not isinstance(name, str):
        raise UserError(f"data.name must be one of {', '.join(datasets.names())} but got {name!r}")
    model: type[DataConfig] = datasets.get(name).Config
    try:
        return model.model_validate(dict(mapping))
    except ValidationError as error:
        raise UserError(explain(error, "data", model)) from error


def explain(error: ValidationError, place: str, model: type[BaseModel]) -> str:
    """One line for all problems: dotted place, value, limit and the nearest field's name."""
    parts = []
    for problem in error.errors(include_url=False):
        location = [str(step) for step in problem["loc"]]
        dotted = ".".join([place, *location])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, location[:-1])
            parts.append(f"{dotted}: unknown field{nearest(location[-1], known)}")
        elif problem["type"] == "missing":
            parts.append(f"{dotted}: missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            hint = ""
            if problem["type"] == "literal_error" and isinstance(problem["input"], str):
                allowed = problem["ctx"]["expected"].replace(" or ", ", ").split(", ")
                close = difflib.get_close_matches(
                    problem["input"], [word.strip("'") for word in allowed], n=1
                )
                hint = f", did you mean {close[0]!r}?" if close else ""
            parts.append(f"{dotted}: {message} but got {problem['input']!r}{hint}")
    return "; ".join(" ".join(part.split()) for part in parts)


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of an error's line: the nearest known name, or all of them if none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    return f" (known: {', '.join(known)})" if known else ""


def _fields_at(model: type[BaseModel], steps: Sequence[str]) -> list[str]:
    """Fields of the model reached by ``steps``, none where a step leads out of models."""
    for step in steps:
        field = model.model_fields.get(step)
        if field is None:
            return []
        kinds = get_args(field.annotation) or (field.annotation,)  # of X | None, both
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
