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
    """The result for people."""
    lines = [render_export(document)]
    for model in document["models"]:
        for graph in model["graphs"]:
            if graph["path"] is None:
                told = f"no {graph['format']} of {model['name']}: {graph['reason']}"
            else:
                told = f"{graph['path']}  (largest difference {graph['max_difference']:.2g})"
            lines.append(escape(told))
    for model in document["registered"]:
        names = "".join(f" @{alias}" for alias in model["aliases"])
        lines.append(escape(f"registered: {model['name']} version {model['version']}{names}"))
    return "\n".join(lines)
