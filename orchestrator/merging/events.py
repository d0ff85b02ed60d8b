"""Which events of several ledgers hold, and what of them a target does not have yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.merging.sources import Event, Source
from orchestrator.merging.spaces import Renaming, renamed
from orchestrator.search.proposals import Proposal, in_space
from search_spaces.sweep_spec import SweepSpec


def join_results(
    sweeps: Sequence[Source], *, has_target: bool
) -> tuple[dict[str, Event], list[dict[str, Any]]]:
    """Key -> the event that holds, and the keys whose results differ.

    A success counts before a failure, then the earliest. With ``has_target`` the first sweep is
    the target, and what is done there stays: its store has those weights.
    """
    found: dict[str, list[tuple[int, Event]]] = {}
    for number, source in enumerate(sweeps):
        for event in source.of("done", "failed"):
            found.setdefault(event["key"], []).append((number, event))
    winners: dict[str, Event] = {}
    conflicts = []
    for key, candidates in found.items():
        done = _first_of_each(candidates)
        if not done:
            winners[key] = max((event for _, event in candidates), key=lambda e: e["time"])
            continue
        earliest = min(done, key=lambda number: done[number]["time"])
        kept = 0 if has_target and 0 in done else earliest
        compared: dict[str, str] = {}
        for event in done.values():
            compared = event["compares_with"] | compared
        winners[key] = done[kept] | {"compares_with": compared}
        if any(event["result"] != done[kept]["result"] for event in done.values()):
            trial = done[kept]["trial"]
            conflicts.append(
                {
                    "key": key,
                    "label": f"{trial['label']} (seed {trial['seed']})",
                    "kept": str(sweeps[kept].folder),
                    "weights_sha256": {
                        str(sweeps[number].folder): event["result"]["model"]["weights_sha256"]
                        for number, event in done.items()
                    },
                }
            )
    return winners, conflicts


def _first_of_each(candidates: Sequence[tuple[int, Event]]) -> dict[int, Event]:
    """Sweep number -> its first success: the one its own records hold."""
    done: dict[int, Event] = {}
    for number, event in candidates:
        if event["event"] == "done":
            done.setdefault(number, event)
    return done


def new_proposals(
    sweeps: Sequence[Source], renamings: Sequence[Renaming], spec: SweepSpec, held: Sequence[Event]
) -> list[Event]:
    """Proposals in the words of the joined space, numbered on from those the target holds, one a
    configuration.

    Into an empty target the first sweep's come over as they are, repeats included: its sampler's
    history goes on.
    """
    old = [Proposal.from_event(event) for event in held if event["event"] == "proposal"]
    known = {p.configuration.key for p in old if in_space(spec, p)}
    new: list[Event] = []
    for place, (source, renaming) in enumerate(zip(sweeps, renamings, strict=True)):
        for event in source.of("proposal"):
            proposal = Proposal.from_event(renamed(event, renaming))
            whole = not held and place == 0
            repeat = proposal.chosen_by == "repeat" or proposal.configuration.key in known
            if not whole and (repeat or not in_space(spec, proposal)):
                continue
            known.add(proposal.configuration.key)
            fields = proposal.event() | {
                "number": len(old) + len(new),
                "system_attrs": proposal.system_attrs if whole else {},
            }
            new.append({"event": "proposal", "time": event["time"]} | fields)
    return new


def new_environments(sources: Sequence[Source], held: Sequence[Event]) -> list[Event]:
    """Versions that the sources name and the target does not know of, each once."""
    known = {event["id"] for event in held if event["event"] == "environment"}
    new = []
    for source in sources:
        for event in source.of("environment"):
            if event["id"] not in known:
                known.add(event["id"])
                new.append(event)
    return new


def new_openings(sources: Sequence[Source], held: Sequence[Event]) -> list[Event]:
    """Openings of the test split that the target does not know of."""
    opened = {key for event in held if event["event"] == "test_opened" for key in event["keys"]}
    new = []
    for source in sources:
        for event in source.of("test_opened"):
            keys = [key for key in event["keys"] if key not in opened]
            opened |= set(keys)
            if keys:
                new.append(event | {"keys": keys})
    return new
