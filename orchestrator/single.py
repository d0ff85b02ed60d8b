"""``fatefront trial``: one trial in this process, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from orchestrator.data_verbs import load_with_bar
from orchestrator.schedule import result_of
from trainables.errors import UserError
from trainables.measurement import measure_node
from trainables.pruning.base import ScoringError
from trainables.specs import validate
from trainables.store import Store
from trainables.training import TrainingError
from trainables.trial import identity, run_trial
from trainables.trial_spec import Trial, configuration_label, node_key


def run_single(spec: Path, store: Path, device: str, quiet: bool = False) -> dict[str, Any]:
    """Run the trial of a YAML file; a trial that cannot be computed is reported, not raised.

    Raises:
        UserError: the file does not describe a trial.
    """
    from trainables.data.load import parse_data

    try:
        document = yaml.safe_load(spec.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{spec}: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict) or "data" not in document:
        raise UserError(
            f"{spec}: a trial needs `data` beside backbone, baseline, prune, n and seed"
        )
    data = parse_data(document.pop("data"))
    trial = validate(Trial, document, place=str(spec)).resolved(device)
    dataset = load_with_bar(data, quiet)
    nodes = Store(str(store))
    try:
        node = run_trial(trial, dataset, nodes, device=device)
    except (TrainingError, ScoringError) as error:
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


def render_trial(document: dict[str, Any]) -> Table:
    """For people."""
    figures = document["result"]["metrics"]["validation"]
    table = Table(title=f"{document['label']}  {document['key']}")
    table.add_column("validation")
    table.add_column("value", justify="right")
    for name in ("num_samples", "f1", "accuracy", "eopp0", "eopp1", "eodd", "eodd_hardt"):
        value = figures[name]
        table.add_row(name, "undefined" if value is None else f"{value:.4g}")
    table.caption = (
        f"{sum(document['execution']['seconds'].values()):.1f} s; node in {document['store']}"
    )
    return table
