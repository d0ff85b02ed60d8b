"""Names of runs in MLflow, so that a person knows them in a list: ``hsic · snnl 2 % · n=3 ·
seed 1``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ITERATIONS = re.compile(r" x (\d+)$")


def trial_name(trial: Mapping[str, Any]) -> str:
    """Name of a trial's run.

    Args:
        trial: of a record, with ``label`` and ``seed``.
    """
    return f"{dotted(str(trial['label']))} · seed {trial['seed']}"


def configuration_name(label: str, seeds: Sequence[object]) -> str:
    """Name of the run of all seeds of a configuration."""
    return f"{dotted(label)} · {len(seeds)} seed{'' if len(seeds) == 1 else 's'}"


def dotted(label: str) -> str:
    """``hsic > snnl 2 % x 3`` as ``hsic · snnl 2 % · n=3``; options in brackets stay."""
    return _ITERATIONS.sub(r" · n=\1", label.replace(" > ", " · "))
