"""Python and the packages, against the ranges that this version asks for and the exact pins."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.doctor.finding import Finding, fail, ok, warn

TESTED = ((3, 11), (3, 12))
PINS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""Beside a source tree; a wheel has the ranges alone."""


def check_python(found: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """The interpreter and the system."""
    text = f"Python {found[0]}.{found[1]} on {platform.system()} ({platform.machine()})"
    if found < TESTED[0]:
        return fail("python", text, "make a virtual environment with Python 3.11 or 3.12")
    if platform.system() != "Linux":
        return warn("python", f"{text}: only Linux is tested", "run on Linux, or in a container")
    if found not in TESTED:
        return warn("python", f"{text} is not tested", "use Python 3.11 or 3.12")
    return ok("python", text)


def check_packages(needed: list[str] | None = None, pins: Path = PINS) -> Iterator[Finding]:
    """What is missing or out of range, each by itself; what differs from the pins, in one line.

    Args:
        needed: requirements as in the package's metadata; None: this package's own.
        pins: file of exact versions, if it is there.
    """
    if needed is None:
        try:
            needed = requires("fatefront") or []
        except PackageNotFoundError:
            yield fail("packages", "fatefront itself is not installed", "pip install -e .")
            return
    direct = [Requirement(text) for text in needed]
    direct = [r for r in direct if r.marker is None or r.marker.evaluate({"extra": ""})]
    found: dict[str, str] = {}
    wrong = []
    for requirement in direct:
        try:
            installed = found[canonicalize_name(requirement.name)] = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(
                fail("packages", f"{requirement.name} is not installed", _pip(requirement))
            )
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            message = f"{requirement.name} {installed} is not {requirement.specifier}"
            wrong.append(fail("packages", message, _pip(requirement)))
    yield from wrong
    pinned = _pins(pins)
    other = [
        f"{name} {installed} (tested: {pinned[name]})"
        for name, installed in found.items()
        if name in pinned and installed != pinned[name]
    ]
    if other:
        yield warn(
            "packages", f"other versions than tested: {', '.join(other)}",
            "pip install -c constraints.txt -e .",
        )  # fmt: skip
    if not wrong and not other:
        how = "the tested versions" if pinned else "in range"
        yield ok("packages", f"{len(found)} packages, {how}")


def _pip(requirement: Requirement) -> str:
    return f"pip install '{requirement.name}{requirement.specifier}'"


def _pins(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): exact for name, exact in pairs}
