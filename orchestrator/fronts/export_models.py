"""The front members' models as portable folders, one a seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.portable import save_portable
from trainables.store import Store, StoreError

Records = Mapping[str, Mapping[str, Any]]


def model_name(trial: Mapping[str, Any]) -> str:
    """Name of a model's folder: ``vanilla-snnl-5pct-x2-seed0``, ``vanilla-seed0``."""
    parts = [str(trial["baseline"]["name"])]
    if trial["criterion"] is not None:
        parts.append(str(trial["criterion"]))
        if trial["ratio"] is not None:
            parts.append(f"{100 * trial['ratio']:g}pct")
        parts.append(f"x{trial['n']}")
    parts.append(f"seed{trial['seed']}")
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower().replace("_", "-")).strip("-.")


def model_names(keys: Sequence[str], records: Records) -> dict[str, str]:
    """Key -> folder name; configurations that read alike get the beginning of their key as
    well.
    """
    plain = {key: model_name(records[key]["trial"]) for key in keys}
    taken = list(plain.values())
    return {
        key: name
        if taken.count(name) == 1
        else f"{name}-{records[key]['trial']['configuration'][:8]}"
        for key, name in plain.items()
    }


def export_models(
    keys: Sequence[str], records: Records, store: Store, to: Path, extra: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write each node's model under ``to``; returns (models written, models that are gone and
    why).

    Args:
        keys: nodes.
        records: of the sweep; a model carries its validation figures.
        store: holds the nodes.
        to: folder of the models' folders.
        extra: what ``save_portable`` needs of the data: groups, aspect, attribute.
    """
    written, missing = [], []
    for key, name in model_names(keys, records).items():
        record = records[key]
        about = {"key": key, "name": name, "seed": record["trial"]["seed"]}
        about["configuration_key"] = record["trial"]["configuration"]
        try:
            folder = save_portable(
                store, key, to / name, dict(extra) | {"metrics": _figures(record)}
            )
        except StoreError as error:
            missing.append(about | {"reason": str(error)})
            continue
        num_bytes = sum(path.stat().st_size for path in folder.iterdir())
        written.append(about | {"path": str(folder), "num_bytes": num_bytes})
    return written, missing


def _figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """Validation figures of one node, FATE against its reference beside them."""
    fate = record["fate"] or {}
    return dict(record["result"]["metrics"]["validation"]) | {
        name: fate[name] for name in fate if name.startswith("fate_") or name == "tag"
    }
