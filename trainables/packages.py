"""Parts that other packages bring by entry points, and which release of which package it is.

A package names its parts under ``[project.entry-points."fatefront.<kind>"]``. Nothing of it is
imported before one of its parts is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from trainables.errors import UserError, first_line


@dataclass(frozen=True)
class Brought:
    """A part that a package brings.

    Attributes:
        point: where it is.
        release: name and version of the package.
    """

    point: EntryPoint
    release: str


def names(group: str) -> list[str]:
    """Names of the parts that installed packages bring to the group; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


@cache
def entry(kind: str, group: str, name: str) -> Brought | None:
    """Who brings a part; None if no installed package does. Read once in a process.

    Raises:
        UserError: two packages bring a part of this name.
    """
    points = {release(point): point for point in entry_points(group=group, name=name)}
    if len(points) > 1:
        raise UserError(
            f"{kind} {name!r} is brought by two packages, {' and '.join(sorted(points))}: "
            "uninstall one of them"
        )
    return next((Brought(point, package) for package, point in points.items()), None)


def release(point: EntryPoint) -> str:
    """Name and version of the package that an entry point belongs to."""
    assert point.dist is not None  # entry points that were found belong to a distribution
    return f"{point.dist.name} {point.dist.version}"


def load(kind: str, brought: Brought, needs: str = "Config") -> Any:
    """Import a part that a package brings: a class with the attribute ``needs``.

    Raises:
        UserError: it cannot be imported, or is not what it is said to be; the message names the
            package.
    """
    point = brought.point
    place = f"package {brought.release}, entry point {point.name} = {point.value}"
    try:
        part = point.load()
    except Exception as error:  # whatever somebody else's module does when it is imported
        reason = f"{type(error).__name__}: {first_line(str(error), 'no message')}"
        raise UserError(f"{kind} {point.name!r} cannot be loaded: {reason} ({place})") from error
    if not isinstance(part, type) or not hasattr(part, needs):
        raise UserError(f"{kind} {point.name!r} is not a class with a `{needs}` ({place})")
    if getattr(part, "name", None) != point.name:
        raise UserError(
            f"{kind} {point.name!r} calls itself {getattr(part, 'name', None)!r}: the entry point "
            f"needs the name that the class is registered by ({place})"
        )
    return part
