"""What our rules look at: a cluster as groups of like nodes, whichever file it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.cluster.findings import Located, Path
from orchestrator.cluster.yaml_file import YamlFile


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are started alike.

    ``commands`` are all that run on such a node in their order; ``environment`` is what they (or
    the container) set; ``mounts`` are folders that are the same on every node of the cluster.
    """

    name: str
    is_head: bool
    path: Path
    commands: tuple[Located, ...]
    environment: Mapping[str, Located]
    images: tuple[Located, ...]
    machine: str | None
    spot: bool
    minimum: int
    maximum: int
    disk_gb: int = 0
    node_config: Mapping[str, Any] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """A cluster file, read."""

    file: YamlFile
    kind: Literal["launcher", "rayjob"]
    provider: str
    region: str | None
    groups: tuple[NodeGroup, ...]
    max_workers: int

    @property
    def head(self) -> NodeGroup:
        """The group of the head node."""
        return next(group for group in self.groups if group.is_head)

    @property
    def commands(self) -> tuple[Located, ...]:
        """Every command of the file, each once, in its order."""
        found = {item.path: item for group in self.groups for item in group.commands}
        return tuple(found.values())


_EXPORT = re.compile(r"\bexport\s+([A-Za-z_][A-Za-z0-9_]*)=(\"[^\"]*\"|'[^']*'|[^\s'\";|&)]*)")


def exports(commands: tuple[Located, ...]) -> dict[str, Located]:
    """What shell commands export, also into a file that shells read; the last word holds."""
    found: dict[str, Located] = {}
    for command in commands:
        for name, value in _EXPORT.findall(command.text):
            found[name] = Located(value.strip("\"'"), command.path)
    return found


def words(command: str) -> list[str]:
    """The words of a shell command: enough to find options, not a shell."""
    return re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^\s;|&()])+", command)


def option(command: str, name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE`` in a command."""
    given = words(command)
    for index, word in enumerate(given):
        if word == name and index + 1 < len(given):
            return given[index + 1].strip("\"'")
        if word.startswith(f"{name}="):
            return word.partition("=")[2].strip("\"'")
    return None
