"""``fatefront export``: the front as files, and its models for whom asks: graphs, the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from orchestrator.fronts.export import export_sweep, render_export


@dataclass(frozen=True)
class ExportOptions:
    """The verb's options.

    Attributes:
        open_test: read the members' test predictions.
        graphs: names of ``orchestrator.models.graph_files.FORMATS``.
        register: in MLflow's registry.
        remake: train models that were dropped again.
    """

    open_test: bool = True
    graphs: tuple[str, ...] = ()
    register: bool = False
    remake: bool = False


def publish(folder: Path, to: Path, options: ExportOptions) -> dict[str, Any]:
    """Export a sweep; returns a document of ``schemas/export.json``.

    Raises:
        UserError: as ``export_sweep``; a package that a graph needs is missing; MLflow cannot be
            reached (what was exported stays).
    """
    if options.graphs:
        from orchestrator.models.graph_files import check_formats, write_graphs

        check_formats(options.graphs)
    document = export_sweep(
        folder, to, open_test=options.open_test, remake=options.remake
    )
    if options.graphs:
        for model, graphs in zip(
            document["models"], write_graphs(document["models"], options.graphs), strict=True
        ):
            model["graphs"] = graphs
    if options.register:
        from orchestrator.models.register import register_models

        document["registered"] = register_models(folder, document["models"], to / "card.md")
    return document


def render_published(document: dict[str, Any]) -> str:
    """The result for people: kinds of graphs and the registry in a line each, and each graph that
    could not be made.
    """
    lines = [render_export(document)]
    graphs = [(m["name"], graph) for m in document["models"] for graph in m["graphs"]]
    for kind in dict.fromkeys(graph["format"] for _, graph in graphs):
        made = [g for _, g in graphs if g["format"] == kind and g["path"] is not None]
        if made:
            largest = max(graph["max_difference"] for graph in made)
            file = Path(made[0]["path"]).name
            lines.append(
                f"{file} of {_number(len(made), 'model')}, checked: largest difference of a logit "
                f"{largest:.2g}"
            )
    lines += [
        f"no {graph['format']} of {name}: {graph['reason']}"
        for name, graph in graphs
        if graph["path"] is None
    ]
    lines += _registered(document["registered"])
    return "\n".join([lines[0], *map(escape, lines[1:])])


def _registered(models: list[dict[str, Any]]) -> list[str]:
    if not models:
        return []
    aliases = [f"@{alias} is {m['version']}" for m in models for alias in m["aliases"]]
    told = f"registered in MLflow: {models[0]['name']}, {_number(len(models), 'version')}"
    return [", ".join([told, *aliases])]


def _number(num: int, thing: str) -> str:
    return f"{num} {thing}{'' if num == 1 else 's'}"
