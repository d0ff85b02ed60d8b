"""YAML from a user: plain data, bounded in depth and size, no key twice, no tags that make
objects.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from trainables.errors import UserError

MAX_DEPTH = 50
MAX_VALUES = 100_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that stands twice is a mistake, not an override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} stands there twice, first in line {seen[key.value]}",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = key.start_mark.line + 1
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


def parse_yaml(text: str, place: str) -> Any:
    """The document of a YAML text.

    Raises:
        UserError: it is not YAML, has a tag, is nested more than 50 deep, or holds more than
            100,000 values once its anchors are written out.
    """
    try:
        check_size(text, place)
        return yaml.load(text, _Loader)  # a subclass of the safe loader
    except yaml.YAMLError as error:
        raise UserError(f"{place}: not YAML: {_reason(error)}") from None
    except ValueError as error:  # a date or a number that YAML's rules allow and Python has not
        raise UserError(f"{place}: not YAML: {error}") from None


def check_size(text: str, place: str) -> None:
    """One pass over the events, without building anything.

    Raises:
        UserError: nested more than 50 deep, more than 100,000 values, an anchor in itself.
        yaml.YAMLError: it is not YAML.
    """
    sizes: dict[str, int] = {}
    open_values: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (name for name, _ in open_values):
                raise UserError(f"{_at(place, event)}: anchor {event.anchor!r} holds itself")
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_values.append((event.anchor, total))
            total += 1
            if len(open_values) > MAX_DEPTH:
                raise UserError(f"{_at(place, event)}: nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_values.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
        if total > MAX_VALUES:
            raise UserError(
                f"{_at(place, event)}: more than {MAX_VALUES} values (with each anchor "
                "written out wherever it is named)"
            )


def _at(place: str, event: yaml.Event) -> str:
    return f"{place}, line {event.start_mark.line + 1}"


def _reason(error: yaml.YAMLError) -> str:
    """PyYAML's message without its excerpt: context, problem, line."""
    mark = getattr(error, "problem_mark", None)
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    said = ", ".join(part for part in parts if part) or " ".join(str(error).split())
    return f"{said} (line {mark.line + 1})" if mark else said
