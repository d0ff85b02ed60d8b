"""Copying nodes from store to store, byte for byte, checksums verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.store import NODE, GoneError, Store, StoreError, node_text


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
        for store in sorted(stores, key=lambda store: not _has_every_file(store, key)):
            node = store.node(key)
            if store.uri == target.uri or node is None:
                continue
            if node["model"]["weights_sha256"] != wanted:
                problem = f"node {key} has other weights in {store.uri} than its record"
                continue
            try:
                num_bytes, whole = copy_node(store, target, key)
            except StoreError as error:
                problem = str(error)
                continue
            copied.num_bytes += num_bytes
            copied.num_nodes += 1
            if not whole:
                copied.without_weights.append(key)
            break
        else:
            copied.without_weights.append(key)
            copied.problems.append(problem)
    return copied


def _has_every_file(store: Store, key: str) -> bool:
    node = store.node(key) or {"files": {}}
    paths = [entry["path"] for entry in node["files"].values()]
    there = store.storage.exists
    return bool(paths) and all(there(f"{store.folder(key)}/{path}") for path in paths)


def copy_node(source: Store, target: Store, key: str) -> tuple[int, bool]:
    """Copy one node, ``node.json`` last; returns the number of bytes, and whether every file came.

    A file that was removed from the source stays away: predictions are worth having where the
    weights are gone, and whoever needs those makes them again.

    Raises:
        StoreError: there is no such node, or it is damaged.
    """
    node = source.node(key)
    if node is None:
        raise StoreError(f"node {key} is not in {source.uri}")
    num_bytes, whole = 0, True
    for name, entry in node["files"].items():
        try:
            data = source.read(key, name)
        except GoneError:
            whole = False
            continue
        target.put_if_absent(f"{target.folder(key)}/{entry['path']}", data)
        num_bytes += len(data)
    target.put_if_absent(f"{target.folder(key)}/{NODE}", node_text(node))
    return num_bytes, whole
