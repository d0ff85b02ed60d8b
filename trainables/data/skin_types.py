"""The fields of data sets that carry Fitzpatrick skin types."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from trainables.data.attributes import LIGHT_DARK, SIX
from trainables.data.base import DataConfig

PRESETS = {"light_dark": LIGHT_DARK, "six": SIX}


class SkinTypeConfig(DataConfig):
    """How types 1 to 6 make groups."""

    bins: str | dict[str, tuple[int, ...]] = Field(
        "light_dark",
        description="light_dark (1-3, 4-6), six, or the types of each group: {light: [1, 2], ...}",
    )

    @field_validator("bins", mode="before")
    @classmethod
    def _disjoint(cls, value: Any) -> Any:
        if isinstance(value, str) and value in PRESETS:
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("bins", "must be light_dark, six or a mapping of groups")
        types = [number for group in value.values() for number in _numbers(group)]
        if len(value) < 2 or not all(map(_numbers, value.values())):
            raise PydanticCustomError("bins", "must have 2 groups or more with a type in each")
        if not set(types) <= set(range(1, 7)) or len(set(types)) < len(types):
            raise PydanticCustomError("bins", "types must be in 1 to 6, each in one group at most")
        return value

    def groups_of_types(self) -> dict[str, tuple[int, ...]]:
        """Name of each group and its skin types."""
        return PRESETS[self.bins] if isinstance(self.bins, str) else self.bins


def _numbers(group: Any) -> list[Any]:
    return list(group) if isinstance(group, (list, tuple)) else [group]
