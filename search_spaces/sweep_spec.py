"""A sweep: which trials may exist.

Frozen, validated when made, printable as the YAML that `run` accepts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from search_spaces.objectives import OBJECTIVES, UNDRAWN, objectives
from search_spaces.words import (
    Choice,
    Integer,
    Number,
    OneOf,
    Template,
    enumerate_all,
    fill,
    grid_size,
    is_finite,
    option_labels,
    plain,
    to_yaml,
)  # fmt: skip
from trainables.errors import UserError, shortened
from trainables.registry import backbones, baselines, criteria, datasets
from trainables.specs import Spec, part, validate
from trainables.trial_spec import Compute, Prune, Recipe, Trial

MOST_TRIALS = 10**9
MAX_GRID = 1_000_000
"""Trials of a grid that are listed; a hundred times what anyone has run."""

CONFIRMATION = 10_000
"""Seeds from here on confirm what smaller ones selected (contracts: random streams)."""
LEAST_CONFIRMING = 5
"""Seeds with which intervals have been seen to hold (benchmarks/coverage.py)."""


class Search(Spec):
    """How configurations are chosen, and what for; all read validation only."""

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    objectives: tuple[str, ...] = ()
    mode: Literal["corrected", "paper"] = "corrected"
    seed: int = Field(0, ge=0, lt=2**32)
    configurations: int | None = Field(None, ge=1, le=MOST_TRIALS, description="proposals in all")
    trials: int | None = Field(None, ge=1, le=MOST_TRIALS, description="computed nodes in all")
    hours: float | None = Field(None, gt=0, description="wall-clock hours of one start")
    max_f1_loss: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="of any group against the reference, relative; above it a configuration is "
        "measured and shown but is no member of the front; null: no limit",
    )
    stop_at: float | None = Field(
        None,
        gt=0.5,
        le=1,
        description="a chain is not continued when it is dominated in this share of redraws "
        "(0.95, say); null: every chain runs to its end",
    )
    racing: bool = Field(
        False,
        description="further seeds, one at a time, for configurations whose place on the front is "
        "in doubt",
    )
    max_seeds: int = Field(10, ge=1, le=1000, description="racing gives no configuration more")
    confirm_seeds: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="fresh seeds for each member of the front, from which its figures are then "
        "reported; null: 5 where racing is on, else none",
    )
    reserve: float = Field(
        0.4,
        ge=0,
        lt=1,
        description="share of trials and hours that the search leaves to racing and confirmation",
    )

    @model_validator(mode="after")
    def _objectives_known(self) -> Search:
        try:
            for name in self.objectives:
                objectives.check(name)
        except UserError as error:
            raise ValueError(str(error)) from None
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must be distinct but got {list(self.objectives)}")
        if self.objectives and not 2 <= len(self.objectives) <= 3:
            raise ValueError(
                f"objectives must be two or three but got {len(self.objectives)}: "
                f"{', '.join(self.objectives)}"
            )
        undrawn = [n for n in self.objectives if n in UNDRAWN or n not in OBJECTIVES]
        asks = "racing" if self.racing else "stop_at" if self.stop_at is not None else None
        if asks and (undrawn or self.mode == "paper"):
            what = f"objective {undrawn[0]!r}" if undrawn else "mode 'paper'"
            raise ValueError(f"{asks} asks how sure a front is, and {what} has no redraws yet")
        if "fate_eodd" in self.objectives and self.mode != "paper":
            raise ValueError(
                "objective 'fate_eodd' lets gaps of opposite sign cancel: it needs mode 'paper'; "
                "use 'fate_eodd_hardt'"
            )
        return self

    @property
    def num_confirming(self) -> int:
        """``confirm_seeds``, written out."""
        if self.confirm_seeds is None:
            return LEAST_CONFIRMING if self.racing else 0
        return self.confirm_seeds

    @property
    def share_of_search(self) -> float:
        """Of trials and hours: all of them where nothing follows the search."""
        return 1 - self.reserve if self.racing or self.num_confirming else 1.0

    @property
    def resolved_objectives(self) -> tuple[str, ...]:
        """By default Hardt's Eodd in corrected mode, the paper's signed one in paper mode."""
        fate = "fate_eodd" if self.mode == "paper" else "fate_eodd_hardt"
        return self.objectives or (fate, "f1")


class SweepSpec(Spec):
    """Data, backbone, recipes, and templates of baselines and pruning arms
    (``search_spaces/words.py``).

    ``training`` and ``finetune`` are the recipes of every baseline and arm that names none.
    ``controls`` are paired with every treated arm; ``reference`` is the baseline FATE is measured
    against, trained with ``training``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    data: part(datasets)  # type: ignore[valid-type]
    backbone: part(backbones)  # type: ignore[valid-type]
    training: Recipe = Recipe()
    finetune: Recipe = Recipe()
    baseline: Any = "vanilla"
    prune: Any = "snnl"
    iterations: int = Field(3, ge=1, le=1000, description="largest number of pruning iterations")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    controls: tuple[str, ...] = ("none", "random")
    reference: str = "vanilla"
    compute: Compute = Compute()
    search: Search = Search()

    @field_validator("baseline", "prune", mode="before")
    @classmethod
    def _template(cls, value: Any) -> Template:
        try:
            return plain(value)
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"seeds must be distinct but got {list(value)}")
        if not all(0 <= seed < CONFIRMATION for seed in value):
            raise ValueError(
                f"seeds must be at least 0 and below {CONFIRMATION} (from there on they confirm a "
                f"front) but got {list(value)}"
            )
        return value

    @model_validator(mode="after")
    def _room_to_race(self) -> SweepSpec:
        if self.search.racing and self.search.max_seeds < len(self.seeds):
            raise ValueError(
                f"search.max_seeds ({self.search.max_seeds}) is below the number of seeds "
                f"({len(self.seeds)})"
            )
        return self

    @model_validator(mode="after")
    def _every_option_is_valid(self) -> SweepSpec:
        """A typo in a branch that is drawn in hour nine must fail now."""
        try:
            for control in self.controls:
                if not criteria.get(control).is_control:
                    raise UserError(f"controls: {control!r} is not a control arm (none, random)")
            if self.reference not in baselines.names():
                near = difflib.get_close_matches(self.reference, baselines.names(), n=1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise UserError(f"reference: unknown baseline {shortened(self.reference)}{hint}")
            used = [self.reference_trial(0).baseline]
            sites: set[tuple[str, str]] = set()
            for corner in self.corner_trials():
                used += [trial.baseline for trial in (corner, *corner.chain[0].parents)]
                arm = corner.resolved().prune
                if arm is not None and arm.cuts:
                    sites.add((arm.layer, arm.site))
                    kept = (self.data.attribute, *self.data.further_attributes)
                    criteria.get(arm.criterion.name).check_attributes(arm.criterion, kept)
            self._check_net(used, sites)
            if self.search.sampler == "grid":
                self._check_grid()
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_grid(self) -> None:
        if not is_finite([self.baseline, self.prune]):
            list(enumerate_all([self.baseline, self.prune]))
        size = grid_size([self.baseline, self.prune]) * self.iterations * len(self.seeds)
        if size > MAX_GRID:
            raise UserError(
                f"sampler grid would run {size} trials without their controls, at most {MAX_GRID} "
                "are listed: use sampler random or tpe with --trials"
            )

    def _check_net(self, used: list[Any], sites: set[tuple[str, str]]) -> None:
        """The backbone has what the baselines need and the sites at which it is cut."""
        import torch

        from trainables.pruning.layers import check_layers

        with torch.device("meta"):
            net = backbones.get(self.backbone.name).construct(self.backbone, 2, None)
        for config in used:
            baselines.get(config.name).check_net(config, net)
        for layer, site in sorted(sites):
            check_layers(net, layer, site)

    def _corners(self) -> Iterator[tuple[Any, Any]]:
        first_baseline = next(_one_at_a_time(self.baseline))
        first_prune = next(_one_at_a_time(self.prune))
        yield from ((b, first_prune) for b in _one_at_a_time(self.baseline))
        yield from ((first_baseline, p) for p in _one_at_a_time(self.prune))

    def corner_trials(self) -> Iterator[Trial]:
        """A trial of the first seed for every option of every word, others at their first."""
        for baseline, prune in self._corners():
            yield self.trial(baseline, prune, 1, self.seeds[0])

    def trial(self, baseline: Any, prune: Any, n: int, seed: int) -> Trial:
        """The trial of a filled baseline and pruning arm; the sweep's recipes fill what they leave
        open.

        Raises:
            UserError: they do not fit.
        """
        place = f"search space {self.name}"
        arm = self._with_recipe(_arm(prune), "finetune", self.finetune) if n else None
        document = {
            "backbone": self.backbone,
            "baseline": self._with_recipe(baseline, "training", self.training),
            # on its own, so that the names it is compared with are an arm's
            "prune": None if arm is None else validate(Prune, arm, place=f"{place}, prune"),
            "n": n,
            "seed": seed,
            "compute": self.compute,
        }
        return validate(Trial, document, place=place)

    @staticmethod
    def _with_recipe(option: Any, field: str, recipe: Recipe) -> dict[str, Any]:
        mapping = {"name": option} if isinstance(option, str) else _mapping(option, "baseline")
        given: Any = mapping.get(field, {})
        default = recipe.model_dump(mode="json")
        return mapping | {field: _merged(default, given) if isinstance(given, dict) else given}

    def reference_trial(self, seed: int) -> Trial:
        """The root FATE is measured against, for one seed."""
        return self.trial(self.reference, None, 0, seed)

    def to_yaml(self) -> str:
        """The whole spec, defaults included, as YAML that reads back to the same sweep."""
        document = self.model_dump(mode="json", exclude={"baseline", "prune"})
        document["baseline"], document["prune"] = to_yaml(self.baseline), to_yaml(self.prune)
        order = list(type(self).model_fields)
        return yaml.safe_dump({k: document[k] for k in order}, sort_keys=False, allow_unicode=True)


def _merged(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``default`` with the given fields in place of its own, nested mappings field by field."""
    out = dict(default)
    for key, value in given.items():
        old = out.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        out[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return out


def _arm(prune: Any) -> dict[str, Any]:
    """A pruning arm may be written as a bare criterion (``snnl``, or a mapping with ``name``)."""
    if isinstance(prune, str):
        return {"criterion": {"name": prune}}
    mapping = _mapping(prune, "prune")
    if "name" in mapping and "criterion" not in mapping:
        own = criteria.get(mapping["name"]).Config.model_fields
        known = [*own, *Prune.model_fields]
        for field in mapping:
            if field not in known:
                near = difflib.get_close_matches(field, known, n=1)
                hint = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"
                raise UserError(f"prune: unknown field {field!r}{hint}")
        criterion = {k: mapping.pop(k) for k in list(mapping) if k in own}
        return mapping | {"criterion": criterion}
    if isinstance(mapping.get("criterion"), str):
        mapping["criterion"] = {"name": mapping["criterion"]}
    return mapping


def _mapping(option: Any, place: str) -> dict[str, Any]:
    if not isinstance(option, dict):
        raise UserError(f"{place}: a name or a mapping is needed but got {shortened(option)}")
    return dict(option)


def _one_at_a_time(template: Template) -> Iterator[Any]:
    """The template at its first values, then once with each other value of each word, others at
    their first.
    """
    seen: dict[str, Any] = {}

    def first(name: str, word: Any) -> Any:
        seen.setdefault(name, word)
        return _values(word)[0]

    yield fill(template, first)
    done: set[tuple[str, Any]] = set()
    while True:
        todo = [
            (name, value)
            for name, word in list(seen.items())
            for value in _values(word)[1:]
            if (name, repr(value)) not in done
        ]
        if not todo:
            return
        name, value = todo[0]
        done.add((name, repr(value)))
        yield fill(template, _toward(seen, name, value))


def _toward(seen: dict[str, Any], target: str, value: Any) -> Any:
    def ask(name: str, word: Any) -> Any:
        seen.setdefault(name, word)
        if name == target:
            return value
        if isinstance(word, OneOf):  # take the branch that leads to the target
            for label in option_labels(word):
                if f"{target}.".startswith(f"{name}.{label}."):
                    return label
        return _values(word)[0]

    return ask


def _values(word: Any) -> list[Any]:
    if isinstance(word, OneOf):
        return list(option_labels(word))
    if isinstance(word, Choice):
        return list(word.values)
    assert isinstance(word, Number | Integer)
    return [word.low, word.high]
