"""A real sweep folder in seconds: trials of a tiny data set run one after another, without Ray,
through the real ledger."""

import os
import shutil
from pathlib import Path

from orchestrator.ledger.manifest import write_manifest
from orchestrator.ledger.records import Ledger, project, write_records
from orchestrator.search.proposals import GridProposer
from orchestrator.search.schedule import FINISHED, Attempt, Budget, Schedule, result_of
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.measurement import measure_node
from trainables.models.resnet import ResNet18
from trainables.store import Store
from trainables.trial import identity, run_trial
from trainables.trial_spec import Recipe

# with fewer images or steps every model predicts one class: no gap, no FATE
DATA = Synthetic.Config(
    num_images=120,
    image_size=32,
    classes=("nv", "mel"),
    minority_share=0.5,
    images_per_patient=1.0,
)
RECIPE = {"batch_size": 8, "schedule": "constant", "normalise": "imagenet"}


def tiny_spec(**changes) -> SweepSpec:
    fields = {
        "name": "tiny",
        "data": DATA,
        "backbone": ResNet18.Config(),
        "training": Recipe(epochs=4, **RECIPE),
        "finetune": Recipe(epochs=1, **RECIPE),
        "prune": {"criterion": "snnl", "ratio": choice(0.1, 0.3), "site": "conv"},
        "iterations": 1,
        "seeds": (0, 1),
        "controls": ("none",),
        "search": Search(sampler="grid"),
    }
    return SweepSpec(**(fields | changes))


def run_tiny(folder: Path, cache: Path, **changes) -> SweepSpec:
    """Run (or go on with) a tiny sweep as the driver does, in this process."""
    spec = tiny_spec(**changes)
    dataset = load_dataset(spec.data, cache_dir=cache)
    store = Store(str(folder / "store"))
    ledger = Ledger(folder).open()
    (folder / "sweep.yaml").write_text(spec.to_yaml())
    write_manifest(folder, spec, dataset, store, "cpu", "")

    def measured(key: str) -> dict:
        return measure_node(store, key, dataset, spec.search.mode)

    schedule = Schedule(
        spec, identity(dataset), "cpu", ledger, store, GridProposer(spec), Budget(),
        measure_stored=measured,
    )  # fmt: skip
    while (step := schedule.next()) != FINISHED:
        assert isinstance(step, Attempt)
        node = run_trial(step.node.trial, dataset, store)
        key = step.node.key
        schedule.succeeded(key, result_of(node, measured(key)), node["execution"])
    write_records(folder, project(ledger.events))
    ledger.close()
    return spec


def copy_sweep(source: Path, to: Path) -> Path:
    """A copy of a sweep folder; its node files (44 MB of weights each) are hard links: remove one
    before writing it anew.
    """

    def link_nodes(name: str, target: str) -> None:
        if "nodes" in Path(name).parts:
            os.link(name, target)
        else:
            shutil.copy2(name, target)

    shutil.copytree(source, to, copy_function=link_nodes)
    return to
