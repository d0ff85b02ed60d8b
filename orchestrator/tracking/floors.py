"""Floors and p-values of a node's gaps, for its run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.judging.evidence import Evidence, open_evidence
from trainables.errors import UserError
from trainables.store import Store, StoreError

_KNOWN: dict[tuple[str, str], dict[str, float]] = {}
"""(sweep, key) -> floors: 20 ms a node, and a pass looks at every node."""


class Floors:
    """What stands beside the gaps of a sweep's nodes."""

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], store: Store, records: Mapping[str, Any]
    ) -> None:
        self.sweep_id, self.records = str(manifest["sweep_id"]), records
        self.evidence: Evidence | None
        try:
            self.evidence = open_evidence(folder, manifest, store, records)
        except UserError:  # a sweep of an older version, or one merged from such
            self.evidence = None

    def of(self, key: str) -> dict[str, float]:
        """Floor and p-value of each gap of a node; empty where its predictions are not at hand."""
        name = (self.sweep_id, key)
        if name not in _KNOWN:
            if self.evidence is None or self.records[key]["status"] != "done":
                return {}
            try:
                floors = self.evidence.floor([key]).gaps
            except StoreError:
                return {}
            _KNOWN[name] = {
                f"{gap}_{what}": value
                for gap, floor in floors.items()
                for what in ("floor", "p_value")
                if (value := getattr(floor, what)) is not None
            }
        return _KNOWN[name]
