"""Optuna as a proposer: the study is a pure function of the ledger, rebuilt in memory at every
start.

The only module that translates the words of a search space; optuna is imported here and in
``orchestrator/report/study.py``, which shows what the study knows.
"""

from __future__ import annotations

import hashlib
import random
import warnings
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from orchestrator.fronts.objectives import directions
from orchestrator.search.proposals import GridProposer, Known, Measured, Proposal, Proposer
from orchestrator.search.tree import Configuration, grid
from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import Choice, Integer, Number, OneOf, fill, is_finite, option_labels

MAX_REPEATS = 5
"""Proposals answered from the record in a row before an unvisited grid point is taken instead.

A sampler on a discrete space repeats itself (TPE: 52 distinct of 200), and telling it so does not
stop it.
"""


def make_proposer(spec: SweepSpec) -> Proposer:
    """The proposer of the sweep's sampler."""
    return GridProposer(spec) if spec.search.sampler == "grid" else OptunaProposer(spec)


class OptunaProposer:
    """Asks an Optuna sampler, seeded per proposal by hash(sweep seed, number)."""

    def __init__(self, spec: SweepSpec) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec = spec
        self.names = spec.search.resolved_objectives
        self.study = self._new_study()
        self._measured: dict[str, Measured] = {}
        self._numbers: dict[str, list[int]] = {}  # configuration -> its entries in the study
        self._grid: list[tuple[dict[str, Any], Configuration]] | None = (
            list(grid(spec)) if is_finite([spec.baseline, spec.prune]) else None
        )

    @property
    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        """To be read only: ``study.trials`` copies every trial that ever was, each time."""
        return self.study.get_trials(deepcopy=False)

    def _new_study(self) -> optuna.Study:
        return optuna.create_study(directions=directions(self.names), sampler=self._sampler(0))

    def _forget_caches(self) -> None:
        """Drop what a sampler keeps in the study beside the trials.

        NSGA-II stores the parents it chose when it was first asked; a rebuilt study would choose
        among all that finished since, and propose something else.
        """
        if self.spec.search.sampler == "nsga2":
            trials = self.study.get_trials(deepcopy=False)
            self.study = self._new_study()
            self.study.add_trials(trials)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        text = f"{self.spec.search.seed}/{number}".encode()
        seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "little")
        with warnings.catch_warnings():
            # multivariate and group are marked experimental; the pin on optuna covers it
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            match self.spec.search.sampler:
                case "tpe":
                    return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
                case "nsga2":
                    return optuna.samplers.NSGAIISampler(population_size=10, seed=seed)
                case "gp":
                    return optuna.samplers.GPSampler(seed=seed)
                case "random":
                    return optuna.samplers.RandomSampler(seed=seed)
        raise ValueError(f"no Optuna sampler for {self.spec.search.sampler!r}")

    def restore(self, proposals: list[Proposal], known: Known) -> None:
        """Rebuild the study from the ledger's proposals and the values known by now."""
        for proposal in proposals:
            self._enter(proposal)
        # each once: all entries of a configuration, repeats too, are told together
        for proposal in {p.configuration.key: p for p in proposals}.values():
            measured = known(proposal.configuration)
            if measured is not None:
                self.observe(proposal.configuration, measured)

    def observe(self, configuration: Configuration, measured: Measured) -> None:
        """Tell all entries of the configuration; an undefined objective is an explicit FAIL."""
        self._measured[configuration.key] = measured
        for number in self._numbers.get(configuration.key, []):
            self._tell(number, measured)

    def _tell(self, number: int, measured: Measured) -> None:
        frozen = self._trials[number]
        if frozen.state.is_finished():
            return
        defined = [value for value in measured.values if value is not None]
        if len(defined) == len(measured.values):
            # a constraint belongs to a trial before it is told; many of these were never asked,
            # so there is no live Trial that knows of them
            trial = optuna.Trial(self.study, frozen._trial_id)
            for name, violation in measured.constraints.items():
                trial.set_constraint(name, violation)
            self.study.tell(number, defined)
        else:
            self.study.tell(number, state=TrialState.FAIL)

    def propose(self) -> list[Proposal]:
        """Ask until something new comes; repeats are answered from the record."""
        out: list[Proposal] = []
        if self._unvisited() == []:
            return out
        for _ in range(MAX_REPEATS):
            number = len(self._trials)
            self._forget_caches()
            self.study.sampler = self._sampler(number)
            trial = self.study.ask()
            parameters, configuration = self._suggest(trial)
            attrs = dict(self._trials[number].system_attrs)
            repeat = configuration.key in self._numbers
            chosen_by = "repeat" if repeat else self.spec.search.sampler
            self._numbers.setdefault(configuration.key, []).append(number)
            out.append(Proposal(number, parameters, configuration, chosen_by, attrs))
            if not repeat:
                return out + self._ancestors(out[-1])
            # a repeat of a pending configuration stays RUNNING until that one is observed: told
            # FAIL now, a rebuilt study, which finds the values known, would differ from this one
            if configuration.key in self._measured:
                self._tell(number, self._measured[configuration.key])
        rest = self._unvisited()
        if not rest:
            return out
        number = len(self._trials)
        parameters, configuration = random.Random(f"{self.spec.search.seed}/{number}").choice(rest)
        chosen = Proposal(number, parameters, configuration, "unvisited")
        self._enter(chosen)
        return [*out, chosen, *self._ancestors(chosen)]

    def _unvisited(self) -> list[tuple[dict[str, Any], Configuration]] | None:
        """Grid points never proposed, or None where the space has no grid."""
        if self._grid is None:
            return None
        return [(p, c) for p, c in self._grid if c.key not in self._numbers]

    def _ancestors(self, proposal: Proposal) -> list[Proposal]:
        entries = []
        for n in range(1, proposal.configuration.n):
            configuration = Configuration(
                proposal.configuration.baseline, proposal.configuration.prune, n
            )
            if configuration.key not in self._numbers:
                entries.append(
                    Proposal(
                        number=len(self._trials),
                        parameters=proposal.parameters | {"n": n},
                        configuration=configuration,
                        chosen_by="ancestor",
                        origin="ancestor",
                    )
                )
                self._enter(entries[-1])
        return entries

    def _suggest(self, trial: optuna.Trial) -> tuple[dict[str, Any], Configuration]:
        parameters: dict[str, Any] = {}

        def ask(name: str, word: Any) -> Any:
            parameters[name] = _suggest_word(trial, name, word)
            return parameters[name]

        filled = fill({"baseline": self.spec.baseline, "prune": self.spec.prune}, ask)
        parameters["n"] = trial.suggest_int("n", 1, self.spec.iterations)
        return parameters, Configuration(filled["baseline"], filled["prune"], parameters["n"])

    def _enter(self, proposal: Proposal) -> None:
        """Add a pending trial for a proposal of the ledger."""
        distributions: dict[str, BaseDistribution] = {
            "n": IntDistribution(1, max(self.spec.iterations, proposal.configuration.n))
        }

        def ask(name: str, word: Any) -> Any:
            distributions[name] = _distribution(word)
            return proposal.parameters[name]

        try:
            fill({"baseline": self.spec.baseline, "prune": self.spec.prune}, ask)
            trial = create_trial(
                state=TrialState.RUNNING,
                params={name: proposal.parameters[name] for name in distributions},
                distributions=distributions,
                system_attrs=proposal.system_attrs,
                user_attrs={"origin": proposal.origin},
            )
        except (KeyError, ValueError):
            # of an earlier, wider space: it keeps its number, and the sampler does not learn from
            # it
            trial = create_trial(state=TrialState.FAIL)
        self.study.add_trial(trial)
        number = len(self._trials) - 1
        self._numbers.setdefault(proposal.configuration.key, []).append(number)


def _suggest_word(trial: optuna.Trial, name: str, word: Any) -> Any:
    match word:
        case OneOf():
            return trial.suggest_categorical(name, option_labels(word))
        case Choice():
            return trial.suggest_categorical(name, word.values)
        case Number():
            return trial.suggest_float(name, word.low, word.high, log=word.log)
    return trial.suggest_int(name, word.low, word.high, log=word.log)


def _distribution(word: Any) -> BaseDistribution:
    match word:
        case OneOf():
            return CategoricalDistribution(option_labels(word))
        case Choice():
            return CategoricalDistribution(word.values)
        case Number():
            return FloatDistribution(word.low, word.high, log=word.log)
        case Integer():
            return IntDistribution(word.low, word.high, log=word.log)
    raise TypeError(f"no distribution for {word!r}")
