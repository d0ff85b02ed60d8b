"""Copying nodes from store to store, byte for byte, checksums verified."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.store import NODE, Store, StoreError

PATH = re.compile(r"(sealed/)?[0-9a-f]{12}/[A-Za-z0-9_.-]+")
"""What a file's path inside its node looks like; a store from elsewhere must not write anywhere
else."""


@dataclass
class Copied:
    """What was copied, and which records now stand without their weights."""

    num_nodes: int = 0
    num_bytes: int = 0
    without_weights: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def document(self, weights: bool) -> dict[str, Any]:
        """Fields of the verb's document."""
        return {
            "num_nodes_copied": self.num_nodes,
            "num_bytes_copied": self.num_bytes,
            "num_without_weights": len(self.without_weights),
            "without_weights": self.without_weights if weights else [],
            "problems": self.problems,
        }


def open_store(folder: Path, manifest: Mapping[str, Any]) -> Store:
    """The store of a sweep folder; a folder that was moved has it beside the ledger."""
    uri = str(manifest["store"])
    if "://" not in uri and not Path(uri).is_dir():
        uri = str((folder / "store").absolute())
    return Store(uri)


def copy_nodes(
    events: Mapping[str, Mapping[str, Any]],
    stores: Sequence[Store],
    target: Store,
    *,
    weights: bool,
) -> Copied:
    """Bring the nodes of finished trials into the target's store, each from the store that has the
    weights of its record.
    """
    copied = Copied()
    for key, event in events.items():
        if event["event"] != "done":
            continue
        wanted = event["result"]["model"]["weights_sha256"]
        if target.has(key):
            continue
        if not weights:
            copied.without_weights.append(key)
            continue
        problem = f"node {key} is in none of the stores"
        for store in stores:
            node = store.node(key)
            if store.uri == target.uri or node is None:
                continue
            if node["model"]["weights_sha256"] != wanted:
                problem = f"node {key} has other weights in {store.uri} than its record"
                continue
            try:
                copied.num_bytes += copy_node(store, target, key)
            except StoreError as error:
                problem = str(error)
                continue
            copied.num_nodes += 1
            break
        else:
            copied.without_weights.append(key)
            copied.problems.append(problem)
    return copied


def copy_node(source: Store, target: Store, key: str) -> int:
    """Copy one node, ``node.json`` last; returns the number of bytes.

    Raises:
        StoreError: a file is missing or damaged, or has a path that is not of a node.
    """
    node = source.node(key)
    if node is None:
        raise StoreError(f"node {key} is not in {source.uri}")
    num_bytes = 0
    for name, entry in node["files"].items():
        if not PATH.fullmatch(entry["path"]):
            raise StoreError(f"node {key} in {source.uri} has a file at {entry['path']!r}")
        data = source.read(key, name)
        target.put_if_absent(f"{target.folder(key)}/{entry['path']}", data)
        num_bytes += len(data)
    text = json.dumps(node, sort_keys=True, indent=1, allow_nan=False).encode()
    target.put_if_absent(f"{target.folder(key)}/{NODE}", text)
    return num_bytes
