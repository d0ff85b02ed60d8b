"""The same Ray, Python and fatefront everywhere: those of this installation."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, Located, nearest

RULE = "pins"
PYTHONS = ("3.11", "3.12")


@cache
def project_version() -> str:
    """Version of the installed project."""
    return metadata.version("fatefront")


@cache
def ray_version() -> str:
    """Version of the installed Ray."""
    return metadata.version("ray")


def check(cluster: Cluster) -> Iterator[Finding]:
    """Images, installations, wheels, and the RayJob's own word on Ray."""
    seen = set()
    pythons: dict[str, Located] = {}
    for group in cluster.groups:
        for image in group.images:
            if image.path not in seen:
                seen.add(image.path)
                yield from _image(image)
            python = re.search(r"-py3(\d+)", image.text)
            if python:
                pythons.setdefault(f"3.{python.group(1)}", image)
    yield from _pythons(pythons)
    installs = [c for c in cluster.commands if re.search(r"\bpip3?\s+install\b", c.text)]
    for command in installs:
        yield from _install(command)
    if cluster.kind == "launcher":
        if not any("fatefront" in command.text for command in installs):
            yield Finding(
                RULE, ("setup_commands",), "no command installs fatefront: install its wheel"
            )
        yield from _mounts(cluster)
    else:
        path = ("spec", "rayClusterSpec", "rayVersion")
        found = cluster.file.get(*path)
        if found is not None and str(found) != ray_version():
            yield Finding(RULE, path, f"rayVersion {found}: the project runs {ray_version()}")
    yield from _machine_image(cluster)


def _image(image: Located) -> Iterator[Finding]:
    """``rayproject/ray:RAY-pyXY...``, or one of your own whose tag says both versions."""
    name, _, tag = image.text.rpartition(":")
    if not name or "/" in tag:
        yield Finding(RULE, image.path, f"image {image.text} has no tag: name a version")
        return
    if re.match(r"(latest|nightly)", tag):
        yield Finding(RULE, image.path, f"image tag {tag} moves: name a version")
        return
    wanted = re.escape(ray_version())
    if not re.search(rf"(?<![\d.]){wanted}(?![\d.])", tag):
        yield Finding(RULE, image.path, f"image tag {tag}: the project runs Ray {ray_version()}")
    if "fatefront" in name and project_version() not in tag:
        yield Finding(
            RULE, image.path, f"image tag {tag}: the project is fatefront {project_version()}"
        )


def _pythons(pythons: dict[str, Located]) -> Iterator[Finding]:
    for python, image in pythons.items():
        if python not in PYTHONS:
            yield Finding(
                RULE, image.path, f"image has Python {python}: one of {', '.join(PYTHONS)}"
            )
    if len(pythons) > 1:
        first, *_, last = pythons.items()
        yield Finding(
            RULE, last[1].path, f"Python {last[0]} here, {first[0]} on other nodes: Ray refuses"
        )
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python, image in pythons.items():
        if len(pythons) == 1 and python in PYTHONS and python != own:
            yield Finding(
                RULE,
                image.path,
                f"Python {python} there, {own} here: `ray submit` and `ray job submit` work, "
                "pickled objects do not travel",
                "note",
            )


def _install(command: Located) -> Iterator[Finding]:
    text = command.text
    for pinned in re.findall(r"\bray(?:\[[^\]]*\])?\s*==\s*([\d.*]+)", text):
        if pinned.rstrip(".*") != ray_version() and not _covers(pinned, ray_version()):
            yield Finding(
                RULE, command.path, f"installs Ray {pinned}: the project runs {ray_version()}"
            )
    if re.search(r"\bray(\[[^\]]*\])?(\s|$|[\"'])", text.split("install", 1)[-1]) and not (
        "-c " in text or "--constraint" in text
    ):
        yield Finding(RULE, command.path, f"installs any Ray: pin ray=={ray_version()}")
    if "fatefront" not in text:
        return
    if not re.search(r"(^|\s)(-c|--constraint)[ =]", text):
        yield Finding(
            RULE,
            command.path,
            "fatefront is installed without the project's versions: add -c constraints.txt",
        )
    if re.search(r"(^|\s)(-e|--editable)\b|git\+|\.git\b", text):
        yield Finding(RULE, command.path, "installs from a checkout: build a wheel, mount dist/")
    for version in re.findall(r"fatefront-(\d[\w.]*?)-py3", text):
        if version != project_version():
            yield Finding(
                RULE,
                command.path,
                f"installs fatefront {version}: this installation is {project_version()}",
            )
    extras = set(metadata.metadata("fatefront").get_all("Provides-Extra") or ())
    for group in re.findall(r"(?:fatefront|\.whl|\))\"?\[([\w,\s-]+)\]", text):
        for extra in (name.strip() for name in group.split(",")):
            if extra and extra not in extras:
                yield Finding(
                    RULE,
                    command.path,
                    f"fatefront has no extra {extra}{nearest(extra, extras)}",
                )


def _covers(pinned: str, version: str) -> bool:
    return pinned.endswith(".*") and version.startswith(pinned[:-1])


def _mounts(cluster: Cluster) -> Iterator[Finding]:
    """The wheel and the constraints that would be copied."""
    mounts = cluster.file.get("file_mounts")
    for target, source in (mounts if isinstance(mounts, dict) else {}).items():
        path = ("file_mounts", str(target))
        local = Path(str(source)).expanduser()
        constraints = local / "constraints.txt" if local.is_dir() else local
        if constraints.name == "constraints.txt" and constraints.exists():
            pinned = re.search(r"^ray==(\S+)", constraints.read_text(), re.MULTILINE)
            if pinned and pinned.group(1) != ray_version():
                yield Finding(
                    RULE,
                    path,
                    f"{source} pins Ray {pinned.group(1)}: the project runs {ray_version()}",
                )
        if local.is_dir() and (wheels := sorted(local.glob("fatefront-*.whl"))):
            versions = {wheel.name.split("-")[1] for wheel in wheels}
            if versions != {project_version()}:
                found = ", ".join(sorted(versions))
                yield Finding(
                    RULE,
                    path,
                    f"{source} holds wheels of {found}: must hold {project_version()} alone",
                )
        elif not local.exists():
            hint = "make wheel" if local.name == "dist" else "it must be there before `ray up`"
            yield Finding(RULE, path, f"no {source} here: {hint}", "note")


def _machine_image(cluster: Cluster) -> Iterator[Finding]:
    """AMIs: Ray's own default of 2022 is too old for the project's CUDA."""
    if cluster.provider != "aws":
        return
    followed = False
    for group in cluster.groups:
        image = group.node_config.get("ImageId")
        path = (*group.path, "node_config", "ImageId")
        if image in (None, "", "latest_dlami"):
            yield Finding(
                RULE,
                (*group.path, "node_config"),
                "no ImageId: Ray would take an AMI of Ubuntu 18.04 whose driver is too old for "
                "the project's CUDA",
            )
        elif isinstance(image, str) and "latest" in image and not followed:
            followed = True
            yield Finding(
                RULE,
                path,
                "the AMI (driver and Docker) follows its latest release: put its id "
                "here to keep it",
                "note",
            )
