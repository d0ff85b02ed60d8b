"""Which verbs stand together in ``fatefront --help``, and in which order."""

from __future__ import annotations

from typing import Any

import typer

from orchestrator.console import Verbs

PANELS = {
    "Start": ("doctor", "init", "schema", "plan", "run", "trial"),
    "Look": ("status", "watch", "ui", "report", "tables", "exits", "show"),
    "Models and predictions": ("export", "predict", "evaluate", "audit"),
    "Data and records": ("data", "merge", "server"),
    "Clusters": ("cluster", "submit", "jobs", "logs", "stop"),
}
_ORDER = [verb for verbs in PANELS.values() for verb in verbs]


class RootVerbs(Verbs):
    """The root command, its verbs in the order of the panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All verbs; what is in no panel comes last."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: (*_ORDER, name).index(name))


def put_into_panels(app: typer.Typer) -> None:
    """Give every verb and group of verbs its panel; call it when all are there."""
    panel_of = {verb: panel for panel, verbs in PANELS.items() for verb in verbs}
    registered: list[Any] = [*app.registered_commands, *app.registered_groups]
    for one in registered:
        name = one.name or getattr(one.callback, "__name__", "")
        if name in panel_of:
            one.rich_help_panel = panel_of[name]
