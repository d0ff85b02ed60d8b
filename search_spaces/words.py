"""The words a search space is written in; every field of a baseline or of a pruning arm can be
one.

In YAML: ``{choice: [0.02, 0.05]}``, ``{one_of: [snnl, {name: random}]}``, ``{number: {low: 0.1,
high: 1, log: true}}``, ``{integer: {low: 1, high: 5}}``. Only ``orchestrator/search/proposer.py``
translates them to Optuna.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trainables.errors import UserError, shortened
from trainables.specs import Spec

Template = Any
"""A JSON-like tree (dicts, lists, scalars) whose leaves or branches may be words."""


@dataclass(frozen=True)
class Choice:
    """One of several values (scalars), as a categorical."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class OneOf:
    """One of several options, each a template with words of its own."""

    options: tuple[Template, ...]


@dataclass(frozen=True)
class Number:
    """A real number in [low, high]; ``log``: uniform in the logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high]."""

    low: int
    high: int
    log: bool = False


WORDS = (Choice, OneOf, Number, Integer)


def choice(*values: Any) -> Choice:
    """One of ``values``."""
    if not values or len({repr(v) for v in values}) < len(values):
        raise UserError(f"choice needs distinct values but got {list(values)}")
    for value in values:
        if value is not None and not isinstance(value, str | int | float):
            raise UserError(f"choice is between numbers or names but got {value!r}: use one_of")
    return Choice(values)


def one_of(*options: Template) -> OneOf:
    """One of ``options``: names, mappings, or configs; each may hold words."""
    if not options:
        raise UserError("one_of needs at least one option")
    return OneOf(tuple(plain(option) for option in options))


def number(low: float, high: float, *, log: bool = False) -> Number:
    """A real number in [low, high]."""
    _check_range("number", low, high, log)
    return Number(float(low), float(high), log)


def integer(low: int, high: int, *, log: bool = False) -> Integer:
    """A whole number in [low, high]."""
    _check_range("integer", low, high, log)
    return Integer(int(low), int(high), log)


def _check_range(word: str, low: float, high: float, log: bool) -> None:
    for name, end in (("low", low), ("high", high)):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise UserError(f"{word} needs two finite numbers but got {name}={shortened(end)}")
        if word == "integer" and end != int(end):
            raise UserError(f"integer needs two whole numbers but got {name}={end}")
    if not low <= high or (log and low <= 0):
        limit = "0 < low <= high" if log else "low <= high"
        raise UserError(f"{word} needs {limit} but got low={low}, high={high}")


def plain(value: Any) -> Template:
    """A template from anything a space may be written with: specs become mappings, YAML words
    become words.
    """
    if isinstance(value, WORDS):
        return value
    if isinstance(value, Spec):
        # only what was written: the sweep's recipes fill the rest
        given = {field: plain(getattr(value, field)) for field in sorted(value.model_fields_set)}
        return given | ({"name": value.name} if hasattr(value, "name") else {})
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            (word, content), *_ = value.items()
            if word in _READERS:
                return _read(word, content)
        return {key: plain(item) for key, item in value.items()}
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "choice": lambda c: choice(*_listed(c)),
    "one_of": lambda c: one_of(*_listed(c)),
    "number": lambda c: number(**c),
    "integer": lambda c: integer(**c),
}


def _listed(content: Any) -> list[Any]:
    """A list as it is; a bare string would be taken apart letter by letter."""
    if not isinstance(content, list | tuple):
        raise TypeError
    return list(content)


def _read(word: str, content: Any) -> Any:
    try:
        return _READERS[word](content)
    except TypeError:
        raise UserError(f"{word}: cannot read {shortened(content)}") from None


def to_yaml(template: Template) -> Any:
    """The inverse of :func:`plain`: words as single-key mappings."""
    if isinstance(template, Choice):
        return {"choice": list(template.values)}
    if isinstance(template, OneOf):
        return {"one_of": [to_yaml(option) for option in template.options]}
    if isinstance(template, Number | Integer):
        word = type(template).__name__.lower()
        content = {"low": template.low, "high": template.high}
        return {word: content | ({"log": True} if template.log else {})}
    if isinstance(template, dict):
        return {key: to_yaml(item) for key, item in template.items()}
    if isinstance(template, list):
        return [to_yaml(item) for item in template]
    return template


Ask = Callable[[str, Any], Any]
"""Called with (dotted name, word); returns a value, or for ``OneOf`` the option's label."""


def option_labels(word: OneOf) -> list[str]:
    """Distinct short labels of the options: their names, numbered where names repeat."""
    names = []
    for i, option in enumerate(word.options):
        name = option.get("name", i) if isinstance(option, dict) else option
        names.append(str(i) if isinstance(name, (list, *WORDS)) else str(name))
    return [n if names.count(n) == 1 else f"{n}#{i}" for i, n in enumerate(names)]


def fill(template: Template, ask: Ask, name: str = "") -> Any:
    """The template with every word replaced by what ``ask`` answers; names grow along the path
    taken.
    """
    if isinstance(template, OneOf):
        label = ask(name, template)
        option = template.options[option_labels(template).index(label)]
        return fill(option, ask, f"{name}.{label}")
    if isinstance(template, WORDS):
        return ask(name, template)
    if isinstance(template, dict):
        return {key: fill(v, ask, f"{name}.{key}" if name else key) for key, v in template.items()}
    if isinstance(template, list):
        return [fill(item, ask, f"{name}.{i}") for i, item in enumerate(template)]
    return template


def enumerate_all(template: Template, name: str = "") -> Iterator[tuple[dict[str, Any], Any]]:
    """Every (parameters, filled template) of a finite template, in a stable order.

    Raises:
        UserError: a real number has no finite grid.
    """
    if isinstance(template, OneOf):
        for label, option in zip(option_labels(template), template.options, strict=True):
            for parameters, value in enumerate_all(option, f"{name}.{label}"):
                yield {name: label} | parameters, value
    elif isinstance(template, Number) and not is_finite(template):
        raise UserError(f"sampler grid cannot list {name}: use choice(...) instead of number(...)")
    elif isinstance(template, Number):
        yield {name: template.low}, template.low
    elif isinstance(template, Choice):
        yield from (({name: value}, value) for value in template.values)
    elif isinstance(template, Integer):
        yield from (({name: v}, v) for v in range(template.low, template.high + 1))
    elif isinstance(template, dict | list):
        keys = list(template) if isinstance(template, dict) else list(range(len(template)))
        branches = [
            list(enumerate_all(template[key], f"{name}.{key}" if name else str(key)))
            for key in keys
        ]
        for picks in itertools.product(*branches):
            parameters = {k: v for part, _ in picks for k, v in part.items()}
            values = [value for _, value in picks]
            yield (
                parameters,
                dict(zip(keys, values, strict=True)) if isinstance(template, dict) else values,
            )
    else:
        yield {}, template


def grid_size(template: Template) -> int:
    """How many filled templates a finite template has; nothing is listed for it."""
    if isinstance(template, OneOf):
        return sum(grid_size(option) for option in template.options)
    if isinstance(template, Choice):
        return len(template.values)
    if isinstance(template, Integer):
        return template.high - template.low + 1
    if isinstance(template, dict | list):
        parts = template.values() if isinstance(template, dict) else template
        return math.prod(grid_size(part) for part in parts)
    return 1


def is_finite(template: Template) -> bool:
    """Whether the template has no real-valued word with more than one value."""
    if isinstance(template, Number):
        return template.low == template.high
    parts = (
        template.options if isinstance(template, OneOf)
        else template.values() if isinstance(template, dict)
        else template if isinstance(template, list) else ()
    )  # fmt: skip
    return all(is_finite(item) for item in parts)
