"""Join sweeps that were run elsewhere: shards by baseline or seed, hosts that are wiped.

Records are joined first (they stay valid without their weights), node files are copied with their
checksums verified. The target is an ordinary sweep folder: `status`, `export` and `run` work on
it. Merging again changes nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from orchestrator.datasets.images import copy_images
from orchestrator.ledger.environments import update_manifest
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger, project, write_records
from orchestrator.merging.events import (
    join_results,
    new_environments,
    new_openings,
    new_proposals,
)
from orchestrator.merging.nodes import copy_nodes, open_store
from orchestrator.merging.sources import Source, check_mergeable
from orchestrator.merging.spaces import union
from trainables.errors import UserError

LEFT_BY_A_STOPPED_MERGE = {".lock", "events.jsonl", "sweep.yaml", "images.npz"}


def merge_sweeps(folders: Sequence[Path], into: Path, *, weights: bool = True) -> dict[str, Any]:
    """Join the records of sweeps into one folder, which is made or extended.

    Of several results of one key a success counts before a failure, then the earliest; what the
    target holds already stays. Results of one key that differ are listed under ``conflicts``.

    Args:
        folders: the sweeps; at least one.
        into: the target.
        weights: copy node files; without them children of these nodes compute them again, and
            their test predictions stay behind.

    Returns:
        A document of ``schemas/merge.json``.

    Raises:
        UserError: a folder has no sweep, the sweeps are of different data, backbone, recipe or
            mode, or a driver is at work in the target.
    """
    sources = [Source.read(folder) for folder in folders if folder.resolve() != into.resolve()]
    if not sources:
        raise UserError("merge needs at least one sweep folder beside --out")
    merged_before = (into / "manifest.json").exists()
    if not merged_before and into.is_dir():
        strange = {path.name for path in into.iterdir()} - LEFT_BY_A_STOPPED_MERGE
        if strange:
            raise UserError(
                f"--out {into} is neither empty nor a sweep folder (it has {min(strange)})"
            )
    target = Source.read(into) if merged_before else None
    has_target = target is not None and bool(target.events)
    sweeps = [target, *sources] if target is not None and has_target else sources
    for other in sweeps[1:]:
        check_mergeable(sweeps[0], other)
    spec, renamings = union([sweep.spec for sweep in sweeps])
    ledger = Ledger(into)
    try:
        ledger.open()
        (into / "sweep.yaml").write_text(spec.to_yaml())
        manifest = read_manifest(into) if merged_before else _manifest(sweeps[0].manifest, into)
        if not merged_before:
            (into / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for source in sources:
            copy_images(source.folder, into)
        winners, conflicts = join_results(sweeps, has_target=has_target)
        copied = copy_nodes(
            winners, [sweep.store for sweep in sweeps], open_store(into, manifest), weights=weights
        )
        proposals = new_proposals(sweeps, renamings, spec, ledger.events)
        results = [
            event
            for key, event in winners.items()
            if not _holds(ledger.events, key, event["event"])
        ]
        openings = new_openings(sources, ledger.events)
        later = sorted([*results, *openings], key=lambda event: event["time"])
        new = [*new_environments(sources, ledger.events), *proposals, *later]
        for event in new:
            fields = {k: v for k, v in event.items() if k not in ("seq", "elapsed", "event")}
            ledger.append(event["event"], **fields)
        if new:
            ledger.append("merged", sources=[str(source.folder) for source in sources])
        records = project(ledger.events)
        write_records(into, records)
        update_manifest(into, ledger.events, records)
    finally:
        ledger.close()
    return {
        "into": str(into),
        "sources": [
            {
                "folder": str(source.folder),
                "sweep_id": source.manifest["sweep_id"],
                "num_done": len({event["key"] for event in source.of("done")}),
            }
            for source in sources
        ],
        "num_records": len(records),
        "num_done": sum(record["status"] == "done" for record in records.values()),
        "num_failed": sum(record["status"] == "failed" for record in records.values()),
        "num_new": len(results),
        "num_configurations": len({r["trial"]["configuration"] for r in records.values()}),
        "seeds": list(spec.seeds),
        "conflicts": conflicts,
    } | copied.document(weights)


def _holds(events: list[dict[str, Any]], key: str, kind: str) -> bool:
    """Whether the target's ledger says as much of a node already: a success, or a failure where
    this is one.
    """
    kinds = ("done",) if kind == "done" else ("done", "failed")
    return any(event["event"] in kinds and event["key"] == key for event in events)


def _manifest(first: Mapping[str, Any], into: Path) -> dict[str, Any]:
    """The first sweep's manifest with a store, an id and a tracking database of its own."""
    own = {"sweep_id": uuid.uuid4().hex[:16], "store": str((into / "store").absolute())}
    remote = str(first["tracking_uri"]).startswith("http")
    history: dict[str, Any] = {"starts": [], "results": []}
    return dict(first) | own | history | {"tracking_uri": first["tracking_uri"] if remote else ""}


def render_merge(document: dict[str, Any]) -> str:
    """The result for people."""
    seeds = ", ".join(map(str, document["seeds"]))
    lines = [
        f"{document['into']}: {document['num_done']} nodes done, {document['num_failed']} failed, "
        f"{document['num_configurations']} configurations, seeds {seeds}",
        f"{document['num_new']} new results, {document['num_nodes_copied']} nodes copied "
        f"({document['num_bytes_copied'] / 1e6:.1f} MB), {document['num_without_weights']} "
        f"without weights",
    ]
    for conflict in document["conflicts"]:
        hashes = ", ".join(
            f"{place}: {sha[:12]}" for place, sha in conflict["weights_sha256"].items()
        )
        lines.append(f"differs: {conflict['label']} ({hashes}); kept that of {conflict['kept']}")
    return escape("\n".join([*lines, *document["problems"]]))
