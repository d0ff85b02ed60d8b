"""Where nodes live: files addressed by key, committed by one last put of ``node.json``.

A store is a folder, a shared folder or an object store (any fsspec URI). A node that has a
``node.json`` is whole; files of an attempt that never committed are invisible. The first commit of
a key wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from trainables.node_cache import NodeCache
from trainables.storage import Storage

NODE = "node.json"
PATH = re.compile(r"(sealed/)?[0-9a-f]{12}/[A-Za-z0-9_.-]+")
"""What a file's path inside its node looks like: a store from elsewhere must not have anything
read, written or removed outside of it."""


def node_text(document: Mapping[str, Any]) -> bytes:
    """A node's document as it is stored, with the SHA-256 of all else in it."""
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return _text(rest | {"sha256": hashlib.sha256(_text(rest)).hexdigest()})


def _text(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode()


def parse_node(key: str, content: bytes) -> dict[str, Any] | None:
    """The document of a node; None where it is not one, is another's, or was changed.

    One without a checksum is taken as it is if it is of an older version, which had none.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("key") != key:
        return None
    files = document.get("files")
    if not isinstance(files, dict) or not all(map(_is_entry, files.values())):
        return None
    if "sha256" not in document:
        return None if "environment" in document else document
    if node_text(document) != content:
        return None
    return {name: value for name, value in document.items() if name != "sha256"}


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and PATH.fullmatch(entry["path"]) is not None
        and entry["path"].rpartition("/")[2] not in (".", "..")
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("num_bytes"), int)
    )


class StoreError(Exception):
    """A stored file is missing or is not what its node says it is."""


class GoneError(StoreError):
    """A file of a committed node has been removed (weights may be, a record stays valid)."""


class Store:
    """Nodes under one URI; every operation is whole-file, nothing is renamed."""

    def __init__(self, uri: str) -> None:
        self.storage = Storage(uri)
        self.uri, self.fs, self.root = self.storage.uri, self.storage.fs, self.storage.root
        self.is_local = self.storage.is_local
        self.cache = None if self.is_local else NodeCache.of_this_machine()

    def folder(self, key: str) -> str:
        """Path of a node's folder inside the file system."""
        return f"{self.root}/nodes/{key[:2]}/{key}"

    def has(self, key: str) -> bool:
        """Whether the node was committed (its weights may have been dropped since)."""
        return self.node(key) is not None

    def node(self, key: str) -> dict[str, Any] | None:
        """The committed ``node.json``; None where there is none, or a damaged one."""
        try:
            content = self.storage.read(f"{self.folder(key)}/{NODE}")
        except FileNotFoundError:
            return None
        return parse_node(key, content)

    def read(self, key: str, name: str) -> bytes:
        """One file of a node, its checksum verified.

        Raises:
            StoreError: no such node or file, or the content is not what was committed.
        """
        node = self.node(key)
        if node is None or name not in node["files"]:
            raise StoreError(f"node {key} has no file {name!r} in {self.uri}")
        entry = node["files"][name]
        cache = None if _is_sealed(name) else self.cache
        kept = cache.get(entry["sha256"]) if cache is not None else None
        if kept is not None:
            return kept
        try:
            data = self.storage.read(f"{self.folder(key)}/{entry['path']}")
        except FileNotFoundError:
            raise GoneError(f"file {name!r} of node {key} is gone from {self.uri}") from None
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise StoreError(f"file {name!r} of node {key} is damaged in {self.uri}")
        if cache is not None:
            cache.put(entry["sha256"], data)
        return data

    def is_whole(self, key: str, name: str) -> bool:
        """Whether a file of a committed node is there and undamaged."""
        try:
            self.read(key, name)
        except StoreError:
            return False
        return True

    def drop(self, key: str, names: Sequence[str]) -> int:
        """Remove some files of a committed node, whose record stays valid; returns the bytes
        freed.
        """
        node = self.node(key)
        freed = 0
        for name in names:
            entry = node["files"].get(name) if node else None
            if entry is None:
                continue
            if self.storage.remove(f"{self.folder(key)}/{entry['path']}"):
                freed += entry["num_bytes"]
        return freed

    def is_there(self, key: str, name: str) -> bool:
        """Whether a file of a committed node has not been dropped; its content is not read."""
        node = self.node(key)
        entry = node["files"].get(name) if node else None
        return entry is not None and self.storage.exists(f"{self.folder(key)}/{entry['path']}")

    def replace(self, key: str, files: dict[str, bytes]) -> dict[str, Any]:
        """Put files that were dropped or damaged back into a committed node; returns its document.

        All else of the document stays as it was committed. The content may differ from what was
        there (a GPU does not repeat itself to the bit); the document then names the new checksum.

        Raises:
            StoreError: the node was never committed.
        """
        node = self.node(key)
        if node is None:
            raise StoreError(f"node {key} is not in {self.uri}")
        entries = self._put_files(key, files)
        document = node | {"files": node["files"] | entries}
        text = node_text(document)
        self.storage.put(f"{self.folder(key)}/{NODE}", text)
        self._keep(files, entries)
        return document

    def commit(
        self, key: str, files: dict[str, bytes], document: dict[str, Any]
    ) -> dict[str, Any]:
        """Write a node's files, then its ``node.json``; returns the document that won.

        The files of one attempt lie in a folder of their own, so two attempts never mix.
        """
        entries = self._put_files(key, files)
        document = {"key": key} | document | {"files": entries}
        text = node_text(document)
        try:
            is_ours = self.put_if_absent(f"{self.folder(key)}/{NODE}", text)
        except OSError:
            with contextlib.suppress(OSError):
                if self.storage.is_local:  # an object store may have it, and lost the answer
                    self._remove(key, entries)
            raise
        if is_ours:
            self._keep(files, entries)
            return document
        winner = self.node(key)
        if winner is None:
            raise StoreError(f"node {key} in {self.uri} has an unreadable {NODE}: remove it")
        self._remove(key, entries)
        return winner

    def _put_files(self, key: str, files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
        """Write files into a folder of this attempt; returns their entries in the document."""
        attempt = uuid.uuid4().hex[:12]
        entries: dict[str, dict[str, Any]] = {}
        try:
            for name, data in files.items():
                path = f"sealed/{attempt}/{name}" if _is_sealed(name) else f"{attempt}/{name}"
                entries[name] = {
                    "path": path,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "num_bytes": len(data),
                }
                self.storage.put(f"{self.folder(key)}/{path}", data)
        except OSError:  # a full disk must not be fuller for it
            with contextlib.suppress(OSError):
                self._remove(key, entries)
            raise
        return entries

    def _remove(self, key: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
        for entry in entries.values():
            self.storage.remove(f"{self.folder(key)}/{entry['path']}")
            self.storage.remove_empty(f"{self.folder(key)}/{entry['path']}".rpartition("/")[0])

    def remove_abandoned(self, key: str) -> int:
        """Remove what attempts that were killed left beside a committed node; returns how many
        files there were.

        Of a node that is not committed nothing is removed: another sweep may be at it.
        """
        node = self.node(key)
        if node is None:
            return 0
        folder = f"{self.folder(key)}/"
        kept = {folder + entry["path"] for entry in node["files"].values()}
        found = [
            path
            for path in self.storage.sizes(self.folder(key))
            # directly beside node.json lies what was measured later
            if path not in kept and "/" in path.removeprefix(folder)
        ]
        for path in found:
            self.storage.remove(path)
            self.storage.remove_empty(path.rpartition("/")[0])
        return len(found)

    def _keep(self, files: dict[str, bytes], entries: dict[str, Any]) -> None:
        """What was just put is likely to be wanted here next: a child starts from its weights."""
        if self.cache is not None:
            for name, data in files.items():
                if not _is_sealed(name):
                    self.cache.put(entries[name]["sha256"], data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create a file whole, or return False where another one is."""
        return self.storage.put_if_absent(path, data)

    def num_bytes(self, key: str) -> int:
        """Size of a node's files as committed."""
        node = self.node(key)
        return sum(entry["num_bytes"] for entry in node["files"].values()) if node else 0


def _is_sealed(name: str) -> bool:
    """Whether a file is of the test split, which nobody reads before it is opened."""
    return name.startswith("test")
