"""Frozen, validated, printable descriptions: the vocabulary every part shares.

A spec says *what*, never *where*: no host, worker count or path of a store is part of one.
"""

from __future__ import annotations

import difflib
import json
import re
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from trainables.errors import LONGEST_VALUE, UserError, shortened
from trainables.registry import Registry

NUM_NAMED = 5
"""Mistakes of one mapping that are said; the rest is counted."""


class Spec(BaseModel):
    """Base of every spec: frozen, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        ser_json_inf_nan="null",
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, given: Any) -> Any:
        """YAML reads ``yes`` and ``on`` as true, which pydantic would take for 1."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field and field.annotation in (int, float):
                raise ValueError(f"{name} is a number but got {value}")
        return given

    def key_fields(self) -> dict[str, Any]:
        """Field values as they enter a key; overridden where a value names content elsewhere."""
        return {field: getattr(self, field) for field in type(self).model_fields}


S = TypeVar("S", bound=Spec)


def canonical(spec: Spec) -> dict[str, Any]:
    """The JSON-able dict that is hashed: fields at their default are left out, ``name`` never is.

    Adding a field whose default changes nothing therefore leaves every stored key valid (OpenLTH's
    rule).
    """
    out: dict[str, Any] = {}
    defaults = _defaults(type(spec))
    for field, value in spec.key_fields().items():
        if field != "name" and value == defaults[field]:
            continue
        out[field] = canonical(value) if isinstance(value, Spec) else json.loads(json.dumps(value))
    return out


@cache
def _defaults(model: type[Spec]) -> dict[str, Any]:
    """Of each field, read only: pydantic copies a default anew each time it is asked for it."""
    fields = model.model_fields.items()
    return {name: info.get_default(call_default_factory=True) for name, info in fields}


def validate(model: type[S], mapping: Any, *, place: str) -> S:
    """``model.model_validate`` with the user's mistakes as one line each: value, limit, place,
    nearest name.

    Raises:
        UserError: the mapping does not fit the model.
    """
    try:
        return model.model_validate(mapping)
    except ValidationError as error:
        found = error.errors()
        shown = [_in_words(e, model, place) for e in found[:NUM_NAMED]]
        more = [f"and {len(found) - NUM_NAMED} more"] if len(found) > NUM_NAMED else []
        raise UserError("; ".join([*shown, *more])) from None


def _in_words(error: Any, model: type[Spec], place: str) -> str:
    path = ".".join(str(part) for part in error["loc"])[:LONGEST_VALUE] or "spec"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"
        return f"unknown field {path!r}{hint} ({place})"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:] if message[:5] == "Input" else message
    said = error["type"] in ("missing", "value_error")
    value = "" if said else f" but got {shortened(error['input'])}"
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        near = difflib.get_close_matches(error["input"][:100], allowed, n=1)
        value += f", did you mean {near[0]!r}?" if near else ""
    return f"{path}: {message}{value} ({place})"


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    for part in loc:
        info = model.model_fields.get(str(part))
        if info is None or not isinstance(info.annotation, type):
            break
        if issubclass(info.annotation, BaseModel):
            model = info.annotation
    return list(model.model_fields)


def part(registry: Registry) -> Any:
    """The pydantic type of a registered part's ``Config``: accepts the config, its mapping, or a
    bare name.
    """

    def parse(value: Any) -> Any:
        if isinstance(value, Spec):
            return value
        mapping = {"name": value} if isinstance(value, str) else value
        if not isinstance(mapping, dict) or "name" not in mapping:
            raise ValueError(f"a {registry.kind} needs a name (known: {registry.names()})")
        try:
            cls = registry.get(mapping["name"])
            return validate(cls.Config, mapping, place=f"{registry.kind} {mapping['name']}")
        except UserError as error:
            raise ValueError(str(error)) from None

    # what the schema of a space puts the registered parts in for (search_spaces/json_schema.py)
    schema = WithJsonSchema({"x-part": registry.kind.replace(" ", "_")})
    return Annotated[SerializeAsAny[Spec], BeforeValidator(parse), schema]
