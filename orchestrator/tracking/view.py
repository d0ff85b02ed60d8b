"""What MLflow's pages open with: the columns that people compare first, and the front as a scatter
chart.

MLflow keeps a shared view of an experiment's page in a tag of the experiment (its "Share" button
writes one); the address ``...?viewStateShareKey=KEY`` opens it. Written for MLflow 3.17, where the
content may be plain JSON; a version that cannot read it says so and shows its own defaults.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from orchestrator.fronts.objectives import directions

TAG = "mlflow.sharedViewState."
KIND = "mlflow.experimentKind"
"""Without it MLflow's pages are those for language models."""
TRAINING = "workflowType=machine_learning"
"""In an address: not MLflow's pages for chats."""
TABLE, CHART = "fatefront-table", "fatefront-front"
"""Share keys: the table of configurations, and the front as a chart."""

LEVEL = "level"
"""Tag of every run: ``sweep``, ``configuration`` or ``trial``."""
RUN_NAME = "attributes.`Run Name`"
CONFIGURATIONS = f"tags.{LEVEL} = 'configuration'"

FIRST = ("tags.role", "tags.criterion", "tags.iteration", "tags.membership", "tags.tag")
WORST = ("metrics.f1_worst_group", "metrics.eodd_hardt", "metrics.eodd_hardt_floor")


def shared_views(objectives: Sequence[str]) -> dict[str, str]:
    """Tags of the experiment: name -> content.

    Args:
        objectives: of the sweep, in their order; the first is drawn upwards, F1 (else the second)
            to the right.
    """
    upward = objectives[0]
    right = "f1" if "f1" in objectives[1:] else objectives[1]
    table = _table(objectives)
    chart = table | _chart(right, upward)
    return {
        KIND: "custom_model_development",
        f"{TAG}{TABLE}": json.dumps(table),
        f"{TAG}{CHART}": json.dumps(chart),
    }


def page_of(address: str, experiment: str, key: str) -> str:
    """Where a view opens."""
    query = f"{TRAINING}&viewStateShareKey={key}"
    query += "&compareRunsMode=CHART" if key == CHART else ""
    return f"{address}/#/experiments/{quote(experiment)}/runs?{query}"


def run_page(address: str, experiment: str, run: str) -> str:
    """Where a run opens."""
    return f"{address}/#/experiments/{quote(experiment)}/runs/{quote(run)}?{TRAINING}"


def _table(objectives: Sequence[str]) -> dict[str, Any]:
    told: list[str] = []
    for name in dict.fromkeys((*objectives, "f1")):
        told += [f"metrics.{name}", f"metrics.{name}_low", f"metrics.{name}_high"]
    columns = [_column(name) for name in (*told, "metrics.membership_frequency", *FIRST, *WORST)]
    return {
        "searchFilter": CONFIGURATIONS,
        "orderByKey": _column(f"metrics.{objectives[0]}"),
        "orderByAsc": directions(objectives[:1]) == ["minimize"],
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {RUN_NAME: 320} | {_column(n): 20 + 8 * len(n) for n in told[::3]},
    }


def _column(name: str) -> str:
    """``metrics.f1`` as MLflow's page writes a column."""
    kind, _, rest = name.partition(".")
    return f"{kind}.`{rest}`"


def _chart(right: str, upward: str) -> dict[str, Any]:
    section, chart = "fatefront-front-section", "fatefront-front-chart"
    return {
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [
            {
                "uuid": section, "name": "Front", "display": True, "isReordered": False,
                "columns": 1, "cardHeight": 560,  # the only chart has the whole page
            }
        ],
        "compareRunCharts": [
            {
                "uuid": chart, "type": "SCATTER", "metricSectionId": section, "deleted": False,
                "isGenerated": False, "runsCountToCompare": 100,
                "displayName": f"{upward} against {right}",
                "xaxis": {"key": right, "type": "METRIC"},
                "yaxis": {"key": upward, "type": "METRIC"},
            }
        ],
    }  # fmt: skip
