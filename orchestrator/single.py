"""``fatefront trial``: one trial in this process, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.datasets.verbs import load_with_bar
from orchestrator.search.schedule import result_of
from trainables.data.base import Dataset
from trainables.errors import UserError
from trainables.measurement import measure_node
from trainables.plain_file import read_user_text
from trainables.pruning.base import ScoringError
from trainables.specs import validate
from trainables.store import Store, StoreError
from trainables.together import run_together
from trainables.training import TrainingError
from trainables.trial import identity, run_trial
from trainables.trial_spec import Trial, configuration_label, node_key
from trainables.yaml_text import parse_yaml


def run_single(
    spec: Path, store: Path, device: str, quiet: bool = False, trace: Path | None = None
) -> dict[str, Any]:
    """Run the trial of a YAML file; a trial that cannot be computed is reported, not raised.

    Args:
        spec: YAML with ``data`` beside the fields of ``Trial``.
        store: folder the node is put into.
        device: cpu or cuda.
        quiet: no bar while images are read.
        trace: where to write what ran when (``trainables.profiling``).

    Raises:
        UserError: the file does not describe a trial.
    """
    from trainables.data.load import parse_data

    document = parse_yaml(read_user_text(spec, "trial"), str(spec))
    if not isinstance(document, dict) or "data" not in document:
        raise UserError(
            f"{spec}: a trial needs `data` beside backbone, baseline, prune, n and seed"
        )
    check_device(device)
    try:
        data = parse_data(document.pop("data"))
    except UserError as error:
        raise UserError(f"{error} ({spec})") from None
    trial = validate(Trial, document, place=str(spec)).resolved(device)
    nodes = Store(str(store))
    try:
        Path(nodes.root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--store {store}: {error.strerror}") from None
    dataset = load_with_bar(data, quiet)
    try:
        if trial.compute.world_size > 1:
            if trace is not None:
                raise UserError("--profile traces trials of one process (compute.world_size)")
            node = run_together(trial, data, nodes.uri, device)
        elif trace is not None:
            node = _traced(trial, dataset, nodes, device, trace)
        else:
            node = run_trial(trial, dataset, nodes, device=device)
    except (TrainingError, ScoringError, StoreError) as error:
        raise UserError(f"trial failed: {error}") from None
    key = node_key(trial, identity(dataset))
    measured = measure_node(nodes, key, dataset, "corrected")
    return {
        "key": key,
        "label": configuration_label(trial),
        "store": nodes.uri,
        "result": result_of(node, measured),
        "execution": node["execution"],
    }


def _traced(
    trial: Trial, dataset: Dataset, store: Store, device: str, path: Path
) -> dict[str, Any]:
    from trainables.profiling import Trace

    if store.node(node_key(trial, identity(dataset))) is not None:
        raise UserError(
            f"--profile: this trial is in {store.uri} already, so that nothing would run; give "
            "another --store"
        )
    with Trace(path) as trace:
        return run_trial(trial, dataset, store, device=device, report=trace.report)


def check_device(device: str, option: str = "--device") -> None:
    """Raises UserError, naming the option, where a device is none or not on this machine."""
    import torch

    if device != "cpu" and not device.startswith("cuda"):
        raise UserError(f"{option} must be cpu or cuda but got {device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"{option} {device}: this machine has no usable GPU")


def render_trial(document: dict[str, Any]) -> Group:
    """For people."""
    figures = document["result"]["metrics"]["validation"]
    table = Table(title=document["label"])
    table.add_column("validation")
    table.add_column("value", justify="right")
    for name in ("num_samples", "f1", "accuracy", "eopp0", "eopp1", "eodd", "eodd_hardt"):
        value = figures[name]
        table.add_row(name, "undefined" if value is None else f"{value:.4g}")
    execution = document["execution"]
    lines = [
        f"node {document['key']} in {document['store']}",
        f"{sum(execution['seconds'].values()):.1f} s on {execution['device']}",
        *(f"note: {note}" for note in execution.get("notes", ())),
    ]
    return Group(table, Text("\n".join(lines), no_wrap=True, overflow="ignore"))
