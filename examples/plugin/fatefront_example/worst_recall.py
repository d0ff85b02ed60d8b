"""An objective: it is read from what every trial records, nothing is computed anew."""

from collections.abc import Mapping
from typing import Any

from search_spaces.objectives import OwnObjective, objectives


@objectives.register("recall_worst_group")
class RecallOfTheWorstGroup(OwnObjective):
    """Macro recall of the group in which it is lowest: whose disease is missed most often."""

    reference = 0.0

    @staticmethod
    def value(validation: Mapping[str, Any], model: Mapping[str, Any]) -> float | None:
        """The lowest of the groups that are assessed; None where there is none."""
        found = [group["recall"] for group in validation["groups"].values()]
        return min((value for value in found if value is not None), default=None)
