"""Early stopping replayed on a recorded sweep: how many rounds it saves, and whether it keeps the
front.

The sweep's own schedule is run again with ``search.stop_at``; each node that it hands out is
answered from the record, each decision is made from the stored predictions of what was handed out
by then. A round is one treated node (a pruning and its fine-tuning).

    python benchmarks/stopping.py DIR [--levels 0.8 0.9 0.95] [--workers 8]
    python benchmarks/stopping.py --simulate [--sweeps 100]

DIR: a finished grid with its store and validation predictions. ``--simulate``: sweeps of the model
of benchmarks/racing.py, three seeds an arm: how many arms the rule would stop, and which share of
them is not dominated by more than the zone by what endless seeds would show on the same patients.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.fronts.front import Front, build_front
from orchestrator.judging.evidence import open_evidence
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import Ledger, load_records
from orchestrator.merging.nodes import open_store
from orchestrator.search.proposer import make_proposer
from orchestrator.search.schedule import Attempt, Budget, Schedule
from search_spaces.sweep_spec import SweepSpec
from trainables.metrics.joint import joint_draws
from trainables.metrics.membership import dominance_shares, dominated_draws, zone_of
from trainables.store import Store
from trainables.trial_spec import DataIdentity

Records = Mapping[str, Mapping[str, Any]]


def replay(
    folder: Path, spec: SweepSpec, manifest: Mapping[str, Any], records: Records, workers: int
) -> Schedule:
    """The schedule of the sweep when it has come to its end, answered from the record."""
    recorded = open_store(folder, manifest)
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(Path(scratch)).open()
        schedule = Schedule(
            spec,
            DataIdentity(manifest["data"]["fingerprint"], manifest["data"]["group_digest"]),
            manifest["device"],
            ledger,
            Store(f"{scratch}/store"),  # empty: nothing is known before it is handed out
            make_proposer(spec),
            Budget(),
            measure_stored=lambda key: {},
            evidence=lambda: open_evidence(folder, manifest, recorded, records),
        )
        at_work: list[Attempt] = []
        while True:
            while len(at_work) < workers and isinstance(step := schedule.next(), Attempt):
                at_work.append(step)
            if not at_work:
                break
            key = at_work.pop(0).node.key
            schedule.succeeded(key, records[key]["result"], records[key]["execution"])
        ledger.close()
        return schedule


def front_of(records: Records, spec: SweepSpec) -> Front:
    """The front by the sweep's own objectives and constraint."""
    search = spec.search
    return build_front(records, search.resolved_objectives, max_f1_loss=search.max_f1_loss)


def labels(front: Front) -> set[str]:
    """Names of the members."""
    return {str(member.aggregate.trial["label"]) for member in front.members}


def num_matched(whole: Front, kept: Front) -> int:
    """Members of the whole front that a point of the kept one equals or betters but for the
    indifference zone, in every objective (maximised).
    """
    zone_K = zone_of(whole.objectives)
    kept_MK = np.array([member.values for member in kept.members])
    return sum(
        bool((kept_MK >= np.array(member.values) - zone_K).all(1).any())
        for member in whole.members
    )


def rounds(records: Records) -> int:
    """Treated nodes."""
    return sum(record["trial"]["role"] == "treatment" for record in records.values())


def simulated(levels: Sequence[float], num_sweeps: int) -> None:
    """Print what would be stopped where all arms are alike, and where they differ."""
    import racing  # the script beside this one

    print("| arms | true differences | stop_at | stopped of the arms | of these front-worthy |")
    print("|---|---|---|---|---|")
    for num_arms in (12, 36):
        for spread, told in ((0.0, "none"), (1.0, "as measured")):
            plain = racing.Sizes()
            sizes = replace(plain, true_K=tuple(spread * x for x in plain.true_K))
            rng = np.random.default_rng(0)
            stopped = dict.fromkeys(levels, 0)
            worthy = dict.fromkeys(levels, 0)
            for _ in range(num_sweeps):
                sweep = racing.draw(num_arms, racing.START, 200, sizes, rng)
                figures = sweep.figures(np.full(num_arms, racing.START))
                pooled_RAK = joint_draws(figures, pooled=True)
                share_A = dominance_shares(pooled_RAK, racing.ZONE_K)[0]
                worthy_A = ~dominated_draws(sweep.here_AK[None], racing.ZONE_K)[0]
                for level in levels:
                    stopped[level] += int((share_A >= level).sum())
                    worthy[level] += int((worthy_A & (share_A >= level)).sum())
            for level in levels:
                all_arms = num_arms * num_sweeps
                print(
                    f"| {num_arms} | {told} | {level:g} | {stopped[level] / all_arms:.0%} | "
                    f"{worthy[level] / max(1, stopped[level]):.1%} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--sweeps", type=int, default=100)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    if options.simulate or options.folder is None:
        simulated(options.levels, options.sweeps)
        return
    manifest, spec = read_manifest(options.folder), read_sweep(options.folder)
    records = load_records(options.folder)
    whole = front_of(records, spec)
    print("| stop_at | rounds run | of | share | members kept | matched | of | new | volume |")
    print("|---|---|---|---|---|---|---|---|---|")
    for level in options.levels:
        search = spec.search.model_copy(update={"stop_at": level})
        changed = spec.model_copy(update={"search": search})
        found = replay(options.folder, changed, manifest, records, options.workers).records
        kept = front_of(found, spec)
        print(
            f"| {level:g} | {rounds(found)} | {rounds(records)} | "
            f"{rounds(found) / rounds(records):.2f} | {len(labels(kept) & labels(whole))} | "
            f"{num_matched(whole, kept)} | {len(whole.members)} | "
            f"{len(labels(kept) - labels(whole))} | {kept.hypervolume / whole.hypervolume:.3f} |"
        )


if __name__ == "__main__":
    main()
