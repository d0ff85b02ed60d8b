"""The tree of trials a sweep may run: nodes, what each needs, what each is compared with.

Pure; nothing runs here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import enumerate_all
from trainables.registry import criteria
from trainables.specs import canonical
from trainables.trial_spec import (
    DataIdentity,
    Trial,
    configuration_key,
    configuration_label,
    digest,
    node_key,
)

Role = Literal["baseline", "treatment", "control"]


@dataclass(frozen=True)
class Configuration:
    """A point of the space without its seed: filled templates and the number of iterations (at
    least one).
    """

    baseline: Any
    prune: Any
    n: int

    @property
    def key(self) -> str:
        """Identity of the proposal as written (two ways to write one arm may differ)."""
        return digest([self.baseline, self.prune, self.n])


@dataclass
class Node:
    """One trial of the tree."""

    key: str
    trial: Trial
    parents: tuple[str, ...]
    role: Role
    configuration: str
    compares_with: dict[str, str] = field(default_factory=dict)
    height: int = 0
    """Steps on the longest path from here to a leaf: what is scheduled first among the ready."""

    def document(self) -> dict[str, Any]:
        """What the ledger says of the trial; data and backbone stand in ``sweep.yaml``."""
        trial = self.trial
        return {
            "label": configuration_label(trial),
            "configuration": self.configuration,
            "role": self.role,
            "baseline": canonical(trial.baseline),
            "criterion": str(trial.prune.criterion.name) if trial.prune else None,
            "site": trial.prune.site if trial.prune and trial.prune.cuts else None,
            "layer": trial.prune.layer if trial.prune and trial.prune.cuts else None,
            "ratio": trial.prune.ratio if trial.prune and trial.prune.cuts else None,
            "prune": canonical(trial.prune) if trial.prune else None,
            "n": trial.n,
            "seed": trial.seed,
        }


class Tree:
    """The nodes that the configurations added so far need, each once."""

    def __init__(self, spec: SweepSpec, data: DataIdentity, device: str) -> None:
        self.spec = spec
        self.data = data
        self.device = device
        self.nodes: dict[str, Node] = {}
        self.touched: set[str] = set()
        """Keys whose comparisons may have grown since somebody emptied it."""

    def add(self, configuration: Configuration) -> list[str]:
        """Add what a configuration needs for every seed; returns the keys of its own nodes, one a
        seed.

        That is its chain, its paired controls to the same depth, its root, and the reference root.
        """
        return [self._add_seed(configuration, seed) for seed in self.spec.seeds]

    def needs(self, configuration: Configuration) -> set[str]:
        """Keys the configuration would add or use, without adding anything."""
        trial_tree = Tree(self.spec, self.data, self.device)
        trial_tree.add(configuration)
        return set(trial_tree.nodes)

    def again(self, node: Node, seed: int) -> str:
        """Add a node's arm with another seed, with all that it is compared with; returns its key.

        A control or a baseline by itself needs its chain and the reference root only.
        """
        trial = Trial.model_validate(node.trial.model_dump(mode="json") | {"seed": seed})
        return self._add_trial(trial, self.spec.controls if node.role == "treatment" else ())

    def example(self, configuration: str) -> Node | None:
        """The node of a record's configuration with the smallest seed."""
        found = [node for node in self.nodes.values() if node.configuration == configuration]
        return min(found, key=lambda node: node.trial.seed, default=None)

    def _add_seed(self, configuration: Configuration, seed: int) -> str:
        spec = self.spec
        trial = spec.trial(configuration.baseline, configuration.prune, configuration.n, seed)
        return self._add_trial(trial, spec.controls if trial.prune is not None else ())

    def _add_trial(self, trial: Trial, control_names: Sequence[str]) -> str:
        reference = self._put(self.spec.reference_trial(trial.seed))
        self.nodes[reference].compares_with |= {"reference": reference, "own": reference}
        arms = [self._arm(trial, control) for control in control_names]
        controls = {
            str(arm.prune.criterion.name): self._put_chain(arm)
            for arm in arms
            if arm.prune is not None
        }
        chain = self._put_chain(trial)
        self.touched |= {reference, *chain, *(key for keys in controls.values() for key in keys)}
        for depth, key in enumerate(chain):
            node = self.nodes[key]
            node.compares_with["reference"] = reference
            node.compares_with["own"] = chain[0]
            if depth and node.role == "treatment":
                node.compares_with |= {name: keys[depth] for name, keys in controls.items()}
        for keys in controls.values():
            for key in keys:
                self.nodes[key].compares_with |= {"reference": reference, "own": chain[0]}
        self._raise_heights(chain)
        for keys in controls.values():
            self._raise_heights(keys)
        return chain[-1]

    def _arm(self, trial: Trial, criterion: str) -> Trial:
        """The control arm of a treated trial: everything alike but the criterion."""
        assert trial.prune is not None
        document = trial.prune.model_dump(mode="json") | {"criterion": {"name": criterion}}
        prune = type(trial.prune).model_validate(document)
        return trial.model_copy(update={"prune": prune})

    def _put_chain(self, trial: Trial) -> list[str]:
        keys: list[str] = []
        for step in trial.chain:
            keys.append(self._put(step, *keys[-1:]))
        return keys

    def _put(self, trial: Trial, before: str | None = None) -> str:
        """Add one trial and its parents; ``before``: key of the one it continues, if known."""
        trial = trial.resolved(self.device)
        known = () if before is None else (before,)
        parents = (*known, *(self._put(parent) for parent in trial.parents[len(known) :]))
        key = node_key(trial, self.data, parents)
        if key not in self.nodes:
            node = Node(key, trial, parents, _role(trial), configuration_key(trial))
            self.nodes[key] = node
        return key

    def _raise_heights(self, chain: list[str]) -> None:
        for height, key in enumerate(reversed(chain)):
            node = self.nodes[key]
            node.height = max(node.height, height)
            for parent in node.parents:
                self.nodes[parent].height = max(self.nodes[parent].height, height + 1)


def _role(trial: Trial) -> Role:
    if trial.prune is None:
        return "baseline"
    return "control" if criteria.get(trial.prune.criterion.name).is_control else "treatment"


def grid(spec: SweepSpec) -> Iterator[tuple[dict[str, Any], Configuration]]:
    """Every (parameters, configuration) of a finite space: arm by arm, iterations ascending.

    Raises:
        UserError: the space has a real-valued word.
    """
    for baseline_parameters, baseline in enumerate_all(spec.baseline, "baseline"):
        for prune_parameters, prune in enumerate_all(spec.prune, "prune"):
            for n in range(1, spec.iterations + 1):
                parameters = baseline_parameters | prune_parameters | {"n": n}
                yield parameters, Configuration(baseline, prune, n)


def full_tree(spec: SweepSpec, data: DataIdentity, device: str) -> Tree:
    """The tree of the whole grid."""
    tree = Tree(spec, data, device)
    for _, configuration in grid(spec):
        tree.add(configuration)
    return tree
