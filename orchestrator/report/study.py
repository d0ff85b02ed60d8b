"""The sweep's Optuna study, rebuilt from the ledger, and what it says of the parameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from orchestrator.fronts.objectives import signs
from orchestrator.report.facts import Facts
from orchestrator.search.proposals import Measured, Proposal
from orchestrator.search.proposer import OptunaProposer
from orchestrator.search.tree import Configuration
from trainables.errors import UserError
from trainables.trial_spec import configuration_key

MIN_TRIALS = 10
"""With fewer trials importances are those of single trials."""


@dataclass(frozen=True)
class StudyTrial:
    """One finished trial of the study: a configuration with all its seeds."""

    configuration: str
    parameters: Mapping[str, Any]
    values: tuple[float, ...]


@dataclass(frozen=True)
class StudyView:
    """What the study holds.

    Attributes:
        trials: finished ones.
        objectives: their names.
        importances: objective -> parameter -> share; empty with fewer than ``MIN_TRIALS``.
        problem: why there are no importances.
    """

    trials: tuple[StudyTrial, ...]
    objectives: tuple[str, ...]
    importances: Mapping[str, Mapping[str, float]]
    problem: str | None = None


def study_view(facts: Facts) -> StudyView:
    """Rebuild the study as the sampler sees it and ask Optuna how much each parameter matters.

    Every proposal of the ledger is entered, also those of a grid, which asks no sampler; values
    are those of the selecting seeds. Importances are by PED-ANOVA (Watanabe, Bansal and Hutter,
    IJCAI 2023), Optuna's default.
    """
    proposer, by_number = _rebuilt(facts)
    found: dict[str, StudyTrial] = {}
    for trial in proposer.study.get_trials(deepcopy=False):
        name = by_number.get(trial.number)
        if trial.state == optuna.trial.TrialState.COMPLETE and name is not None:
            found.setdefault(name, StudyTrial(name, dict(trial.params), tuple(trial.values)))
    objectives = tuple(proposer.names)
    importances, problem = _importances(proposer.study, objectives, len(found))
    return StudyView(tuple(found.values()), objectives, importances, problem)


def rebuilt_study(facts: Facts) -> optuna.Study:
    """The study in memory, its objectives named; for what shows studies."""
    proposer, _ = _rebuilt(facts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proposer.study.set_metric_names(list(proposer.names))
    return proposer.study


def _rebuilt(facts: Facts) -> tuple[OptunaProposer, dict[int, str | None]]:
    """A proposer to which everything of the ledger was told, and number of a trial ->
    configuration key.
    """
    proposals = _proposals(facts)
    key_of = {p.configuration.key: _configuration(facts, p.configuration) for p in proposals}
    values = _values(facts)

    def known(configuration: Configuration) -> Measured | None:
        name = key_of.get(configuration.key)
        return None if name is None or name not in values else Measured(values[name])

    # a grid has no sampler; which one stands here does not matter, for nothing is asked
    search = facts.spec.search.model_copy(update={"sampler": "random"})
    proposer = OptunaProposer(facts.spec.model_copy(update={"search": search}))
    proposer.restore(proposals, known)
    by_number = {proposal.number: key_of[proposal.configuration.key] for proposal in proposals}
    return proposer, by_number


def _proposals(facts: Facts) -> list[Proposal]:
    """Of the ledger, numbered anew: merged sweeps have several of one number, and each once."""
    seen: dict[str, Proposal] = {}
    for event in facts.events:
        if event["event"] == "proposal":
            proposal = Proposal.from_event(dict(event))
            seen.setdefault(proposal.configuration.key, proposal)
    return [
        Proposal(number, p.parameters, p.configuration, p.chosen_by, {}, p.origin)
        for number, p in enumerate(seen.values())
    ]


def _configuration(facts: Facts, proposed: Configuration) -> str | None:
    """The records' key of a proposal; None where the space has changed too much to tell."""
    spec = facts.spec
    try:
        trial = spec.trial(proposed.baseline, proposed.prune, proposed.n, spec.seeds[0])
    except UserError:
        return None
    return configuration_key(trial.resolved(facts.manifest["device"]))


def _values(facts: Facts) -> dict[str, tuple[float, ...]]:
    """Configuration key -> objectives by the selecting seeds."""
    both = (*facts.front.members, *facts.front.dominated, *facts.front.selected.values())
    return {member.aggregate.configuration: member.values for member in both}


def _importances(
    study: optuna.Study, objectives: tuple[str, ...], num_trials: int
) -> tuple[dict[str, dict[str, float]], str | None]:
    if num_trials < MIN_TRIALS:
        return {}, f"{num_trials} configurations are too few, {MIN_TRIALS} are the least"
    found: dict[str, dict[str, float]] = {}
    # PED-ANOVA asks what sets the lowest values apart, so the best ones must be the lowest
    for index, sign in enumerate(-signs(objectives)):

        def target(
            trial: optuna.trial.FrozenTrial, index: int = index, sign: float = sign
        ) -> float:
            return float(sign * trial.values[index])

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                # says that low values are meant, whatever the target is
                warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")
                shares = optuna.importance.get_param_importances(study, target=target)
            found[objectives[index]] = dict(shares)
        except (ValueError, RuntimeError) as error:
            return {}, f"Optuna cannot tell: {error}"
    return found, None
