"""What one trial is: a point of the tree, and the key of the node it ends in (contracts: nodes,
keys).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from trainables.data.augment import Augment
from trainables.registry import backbones, baselines, criteria
from trainables.specs import Spec, canonical, part

STEP_VERSIONS = {"train": 2, "derive": 1, "prune": 2}
"""Raised when a step computes something else from the same spec; part of every key of that kind.
"""


class EarlyStopping(Spec):
    """Stop when validation loss has not fallen for ``patience`` epochs; the best epoch's weights
    are kept.
    """

    patience: int = Field(10, ge=1)


class Recipe(Spec):
    """How weights are trained; the defaults are the published recipe (method 1.7) but for epochs
    and augmentation.
    """

    epochs: int = Field(200, ge=0)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(1e-5, ge=0)
    schedule: Literal["constant", "step", "cosine"] = "step"
    step_size: int = Field(100, ge=1, description="epochs between two decays of `step`")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of one decay of `step`")
    sampling: Literal["natural", "class", "group", "class_group", "class_grouped"] = "class"
    augment: Augment = Augment()
    normalise: Literal["none", "imagenet"] = "none"
    early_stopping: EarlyStopping | None = None

    def resolved(self) -> Recipe:
        """Fields that do not matter under the chosen schedule put back to their default."""
        ignored = [] if self.schedule == "step" else ["step_size", "gamma"]
        ignored += [] if self.momentum else ["nesterov"]
        return self.model_copy(update={n: Recipe.model_fields[n].default for n in ignored})


class Compute(Spec):
    """What of the machine is allowed to change a result, and is therefore part of the key."""

    precision: Literal["auto", "float32", "bf16"] = "auto"
    threads: int = Field(1, ge=1, le=1024, description="PyTorch threads of one process of a trial")
    world_size: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that train one trial together, each with a GPU of its own "
        "(--gpus-per-trial)",
    )

    def resolved(self, device: str) -> Compute:
        """``auto`` becomes bf16 on a GPU and float32 on a CPU."""
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if device.startswith("cuda") else "float32"
        return self.model_copy(update={"precision": precision})


SEVERAL_FLOOR = 0.1
"""Default of ``Prune.floor`` where several layers are pruned."""


def is_several(layer: str) -> bool:
    """Whether ``Prune.layer`` stands for more than one layer."""
    return layer == "all" or "," in layer


class Prune(Spec):
    """One pruning iteration: score the channels of one or several layers, remove a share of them,
    fine-tune.
    """

    criterion: part(criteria)  # type: ignore[valid-type]
    ratio: float = Field(0.02, description="share of the layer's original channels per iteration")
    layer: str = Field(
        "last", description="a convolution, `last`, several as a list or with commas, or `all`"
    )
    site: Literal["auto", "conv", "block", "group"] = "auto"
    floor: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of each layer's original channels that always stays, and never less "
        f"than one channel; by default {SEVERAL_FLOOR} with several layers, else 0",
    )
    ranking: Literal["per_layer", "global"] = Field(
        "per_layer",
        description="`global`: as many channels in all, the lowest z-scores (within each layer) "
        "of all layers",
    )
    surgery: Literal["cut", "weight_mask"] = "cut"
    finetune: Recipe = Recipe()
    finetune_loss: Literal["baseline", "cross_entropy"] = "baseline"

    @field_validator("ratio")
    @classmethod
    def _ratio(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError(f"prune ratio must be in (0, 1) but got {value}")
        return value

    @field_validator("layer", mode="before")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        """A list of names becomes their names with commas."""
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            value = ",".join(value)
        if isinstance(value, str):
            value = ",".join(name.strip() for name in value.split(","))
            if not all(value.split(",")):
                raise ValueError(f"prune layer: a name is empty in {value!r}")
        return value

    @property
    def several(self) -> bool:
        """Whether more than one layer is meant."""
        return is_several(self.layer)

    @property
    def share_kept(self) -> float:
        """The floor, by default that of one or of several layers."""
        if self.floor is not None:
            return self.floor
        return SEVERAL_FLOOR if self.several else 0.0

    @property
    def cuts(self) -> bool:
        """Whether this arm removes channels at all (``none`` does not)."""
        return bool(criteria.get(self.criterion.name).cuts)


class Trial(Spec):
    """One point: a backbone, a baseline, a way to prune it, how often (n), and a seed.

    ``n = 0`` is the trained baseline. The trial with n starts from the weights of the one before.
    """

    backbone: part(backbones)  # type: ignore[valid-type]
    baseline: part(baselines)  # type: ignore[valid-type]
    prune: Prune | None = None
    n: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _n_fits(self) -> Trial:
        if (self.n > 0) != (self.prune is not None):
            raise ValueError("n counts pruning iterations: n > 0 needs `prune`, n = 0 has none")
        if self.prune is not None:
            ours, theirs = self.baseline.training.normalise, self.prune.finetune.normalise
            if ours != theirs:
                raise ValueError(
                    f"finetune.normalise must be {ours!r} as in training but got {theirs!r}: "
                    "the net would see other inputs than it was trained on"
                )
        return self

    @property
    def kind(self) -> Literal["train", "derive", "prune"]:
        """The step that makes this node from its parents."""
        if self.n:
            return "prune"
        return "derive" if baselines.get(self.baseline.name).derives else "train"

    @property
    def parents(self) -> tuple[Trial, ...]:
        """The trials whose weights this one needs, first the one it continues."""
        cls = baselines.get(self.baseline.name)
        sources = tuple(
            self.model_copy(update={"baseline": source, "prune": None, "n": 0})
            for source in cls.sources(self.baseline)
        )
        if self.prune is None:
            return sources
        up = {"n": self.n - 1} | ({"prune": None} if self.n == 1 else {})
        kept = cls.keeps_sources and self.prune.finetune_loss == "baseline"
        return (self.model_copy(update=up), *(sources if kept else ()))

    @property
    def chain(self) -> tuple[Trial, ...]:
        """This trial and the ones it continues, root first."""
        return (*(self.parents[0].chain if self.n else ()), self)

    def resolved(self, device: str = "cpu") -> Trial:
        """Every ``auto`` and ``last`` replaced by what it stands for; fields that do not matter
        put back to default.
        """
        baseline = self.baseline.model_copy(update={"training": self.baseline.training.resolved()})
        update: dict[str, Any] = {"compute": self.compute.resolved(device), "baseline": baseline}
        if self.prune is not None:
            update["prune"] = self._resolved_prune(self.prune)
        return self.model_copy(update=update)

    def _resolved_prune(self, prune: Prune) -> Prune:
        if prune.cuts:
            backbone = backbones.get(self.backbone.name)
            layer = backbone.resolved_layer(self.backbone, prune.layer)
            prune = prune.model_copy(update={"layer": layer})
            auto = "group" if prune.several else backbone.default_site
            change: dict[str, Any] = {"site": prune.site if prune.site != "auto" else auto}
            if prune.several:
                change["floor"] = prune.share_kept
            else:
                change |= {"ranking": "per_layer", "floor": prune.floor or None}
        else:
            ignored = ("ratio", "layer", "site", "surgery", "floor", "ranking")
            change = {name: Prune.model_fields[name].default for name in ignored}
        if baselines.get(self.baseline.name).loss_is_plain(self.baseline):
            change["finetune_loss"] = Prune.model_fields["finetune_loss"].default
        return prune.model_copy(update=change | {"finetune": prune.finetune.resolved()})

    def label(self) -> str:
        """A short name for people: ``vanilla > snnl 2 % x 3 (seed 0)``."""
        return f"{configuration_label(self)} (seed {self.seed})"


def configuration_label(trial: Trial) -> str:
    """The trial without its seed, for people; options that are not at their default are named."""
    name = _part_label(trial.baseline, {"training"})
    if trial.prune is not None:
        ratio = f" {100 * trial.prune.ratio:g} %" if trial.prune.cuts else ""
        other = [
            f"{option}={getattr(trial.prune, option)}"
            for option in ("surgery", "ranking", "finetune_loss")
            if getattr(trial.prune, option) != Prune.model_fields[option].default
        ]
        options = f" ({', '.join(other)})" if other else ""
        name += f" > {_part_label(trial.prune.criterion, set())}{ratio}{options} x {trial.n}"
    return name


def _part_label(config: Spec, left_out: set[str]) -> str:
    options = {k: v for k, v in canonical(config).items() if k not in {"name", *left_out}}
    told = ", ".join(f"{k}={v}" for k, v in options.items())
    return str(getattr(config, "name")) + (f"({told})" if told else "")  # noqa: B009


@dataclass(frozen=True)
class DataIdentity:
    """What a key knows of the data: its content, and the groups where a step reads them."""

    fingerprint: str
    group_digest: str


def digest(document: Any) -> str:
    """32 hexadecimal digits of the SHA-256 of a JSON document in canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def step_document(trial: Trial) -> dict[str, Any]:
    """The part of a key that is this step's own: canonical spec, code versions, and the releases
    of other packages whose parts it uses (``trial`` is resolved).
    """
    baseline = baselines.get(trial.baseline.name)
    packages = {"baseline": baselines.package(trial.baseline.name)}
    document: dict[str, Any] = {"kind": trial.kind, "compute": canonical(trial.compute)}
    versions = {"step": STEP_VERSIONS[trial.kind], "baseline": baseline.VERSION}
    if trial.prune is None:
        document["backbone"] = canonical(trial.backbone)
        document["baseline"] = canonical(trial.baseline)
        versions["backbone"] = backbones.get(trial.backbone.name).VERSION
        packages["backbone"] = backbones.package(trial.backbone.name)
    else:
        document["prune"] = canonical(trial.prune)
        document["n"] = trial.n
        versions["criterion"] = criteria.get(trial.prune.criterion.name).VERSION
        packages["criterion"] = criteria.package(trial.prune.criterion.name)
    if others := {part: release for part, release in packages.items() if release is not None}:
        document["packages"] = others
    return document | {"versions": versions}


def uses_group(trial: Trial) -> bool:
    """Whether this step reads the sensitive attribute; only then is it part of its key."""
    baseline = baselines.get(trial.baseline.name)
    if trial.prune is None:
        return bool(baseline.reads_group(trial.baseline))
    recipe = trial.prune.finetune
    return bool(
        criteria.get(trial.prune.criterion.name).uses_group
        or recipe.sampling in ("group", "class_group")
        or (trial.prune.finetune_loss == "baseline" and baseline.reads_group(trial.baseline))
    )


def node_key(trial: Trial, data: DataIdentity, parents: Sequence[str] | None = None) -> str:
    """The address of a resolved trial's node: equal keys mean equal results.

    ``parents``: their keys where they are known already.
    """
    document = step_document(trial)
    if parents is None:
        parents = [node_key(parent, data) for parent in trial.parents]
    document["parents"] = list(parents)
    document["data"] = data.fingerprint
    document["seed"] = trial.seed
    if uses_group(trial):
        document["groups"] = data.group_digest
    return digest(document)


def configuration_key(trial: Trial) -> str:
    """Identity of a configuration: the resolved trial without its seed and data."""

    def document(t: Trial) -> dict[str, Any]:
        return step_document(t) | {"parents": [document(parent) for parent in t.parents]}

    return digest(document(trial))[:16]
