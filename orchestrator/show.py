"""``fatefront show``: a spec as the YAML that reproduces it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.spaces import load_space
from trainables.errors import UserError
from trainables.store import Store


def show_yaml(space: str, overrides: Sequence[str], key: str | None) -> str:
    """YAML of a space, of a folder's sweep, or of one of its trials.

    Raises:
        UserError: no such space, folder or key.
    """
    folder = Path(space)
    if not os.path.isfile(folder / "manifest.json"):  # False also where it may not be looked at
        if key is not None:
            raise UserError(f"--key needs the folder of a sweep but got {space!r}")
        return load_space(space, overrides).to_yaml()
    spec = read_sweep(folder)
    if key is None:
        return load_space(str(folder / "sweep.yaml"), overrides).to_yaml()
    node = Store(read_manifest(folder)["store"]).node(key)
    if node is None:
        raise UserError(f"no node {key!r} in the store of {folder}")
    document = {"data": spec.data.model_dump(mode="json")} | node["trial"]
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
