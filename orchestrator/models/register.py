"""Exported models in MLflow's registry: loadable by ``mlflow.pyfunc``, servable, without pickle.

The registered model is ``<sweep>-front``, a version a member and seed. Doing it again finds what
is there by the node's key and the weights' digest, and moves the aliases.

Shape legend: N images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.fronts.front import Front, sweep_front
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import load_records
from orchestrator.models.aliases import ALIASES, aliased
from orchestrator.progress_bar import counted
from orchestrator.tracking.client import (
    TrackingError,
    as_default,
    experiment,
    quiet,
    tracking_errors,
)
from orchestrator.tracking.models import logged_model
from orchestrator.tracking.names import trial_name
from orchestrator.tracking.process import default_uri
from orchestrator.tracking.runs import KEY, MAX_TAG, SWEEP_ID
from orchestrator.tracking.up_to_date import bring_up_to_date
from trainables.errors import UserError
from trainables.portable import PortableModel, fatefront_version, load_portable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

NAME = "front-model"
CODE = Path(__file__).with_name("served.py")
PACKAGES = ("mlflow", "torch", "torchvision", "safetensors", "numpy", "pandas")
WEIGHTS, ON_FRONT = "weights_sha256", "front"


def register_models(
    folder: Path, models: Sequence[Mapping[str, Any]], card: Path
) -> list[dict[str, Any]]:
    """Register exported models of a sweep; returns ``name``, ``version``, ``key``, ``aliases`` of
    each.

    Args:
        folder: of the sweep.
        models: of the document of an export: ``path``, ``key``.
        card: ``card.md`` of the export.

    Raises:
        UserError: MLflow cannot be reached, or the sweep's run is missing there.
    """
    manifest = read_manifest(folder)
    uri = manifest.get("tracking_uri") or ""
    uri = default_uri(folder) if uri in ("", "none") else uri
    try:
        with quiet(), tracking_errors(uri):
            bring_up_to_date(folder, uri)
            return _Registry(folder, manifest, uri).register(models, card)
    except TrackingError as error:
        raise UserError(f"--register: {error}") from None


class _Registry:
    def __init__(self, folder: Path, manifest: Mapping[str, Any], uri: str) -> None:
        from mlflow import MlflowClient

        self.client: MlflowClient = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.uri, self.sweep_id = uri, str(manifest["sweep_id"])
        self.experiment = experiment(self.client, folder, uri, str(manifest["sweep"]))
        self.name = f"{manifest['sweep']}-front"
        self.records = load_records(folder)
        self.front: Front = sweep_front(self.records, read_sweep(folder))

    def register(self, models: Sequence[Mapping[str, Any]], card: Path) -> list[dict[str, Any]]:
        """What is missing; then aliases and the tag ``front`` of every version."""
        self._make_name(card.read_text(encoding="utf-8"))
        known = {v.tags.get(KEY): v for v in self._versions()}
        for model in counted(models, len(models), "models into the registry"):
            key, digest = str(model["key"]), load_portable(model["path"]).card.weights_sha256
            if key not in known or known[key].tags.get(WEIGHTS) != digest:
                self._log(key, Path(model["path"]), card, digest)
        versions = {str(v.tags.get(KEY)): v for v in self._versions()}
        named = {a: k for a, k in aliased(self.front, self.records).items() if k in versions}
        self._name(named, versions)
        on_front = set(self.front.keys)
        for key, found in versions.items():
            value = str(key in on_front).lower()
            if found.tags.get(ON_FRONT) != value:
                self.client.set_model_version_tag(self.name, found.version, ON_FRONT, value)
        return [
            {
                "name": self.name,
                "version": int(versions[str(m["key"])].version),
                "key": str(m["key"]),
                "aliases": [a for a in ALIASES if named.get(a) == str(m["key"])],
            }
            for m in models
        ]

    def _make_name(self, card: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.client.update_registered_model(self.name, card[:MAX_TAG])

    def _versions(self) -> list[Any]:
        """Of this sweep, the oldest first: a later one of the same key counts."""
        found: list[Any] = []
        token = None
        while True:
            query = f"name = '{self.name}' and tags.`{SWEEP_ID}` = '{self.sweep_id}'"
            page = self.client.search_model_versions(query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda v: int(v.version))

    def _log(self, key: str, path: Path, card: Path, digest: str) -> None:
        """A model, and the version that it is."""
        import mlflow.pyfunc
        from mlflow.models import Model

        portable, run_id = load_portable(path), self._run_of(key)
        image_NHWC = _example(portable)
        tags = {KEY: key, SWEEP_ID: self.sweep_id, WEIGHTS: digest}
        name = f"{NAME}-{digest[:8]}"
        logged = logged_model(self.client, self.experiment, name, run_id, tags)
        if logged.status != "READY":
            with as_default(self.uri):
                Model.log(
                    artifact_path=None,
                    name=name,
                    flavor=mlflow.pyfunc,
                    run_id=run_id,
                    model_id=logged.model_id,
                    python_model=str(CODE),
                    artifacts={"model": str(path), "card": str(card)},
                    signature=_signature(portable, image_NHWC),
                    input_example=image_NHWC,
                    pip_requirements=_requirements(),
                    metadata={"key": key, "classes": list(portable.classes)},
                )
        trial = self.records[key]["trial"]
        self.client.create_model_version(
            self.name,
            source=logged.artifact_location,
            run_id=run_id,
            model_id=logged.model_id,
            tags=tags | {"configuration": str(trial["label"]), "seed": str(trial["seed"])},
            description=self._description(key, portable),
            await_creation_for=0,
        )

    def _run_of(self, key: str) -> str:
        query = f"tags.`{SWEEP_ID}` = '{self.sweep_id}' and tags.`{KEY}` = '{key}'"
        found = self.client.search_runs([self.experiment], query)
        if not found:
            raise TrackingError(f"node {key} has no run in {self.uri}: was it deleted?")
        return str(found[0].info.run_id)

    def _description(self, key: str, portable: PortableModel) -> str:
        """What this one is, in Markdown."""
        metrics = self.records[key]["result"]["metrics"]["validation"]
        fate = self.records[key].get("fate") or {}
        figures = {name: metrics.get(name) for name in ("f1", "eodd_hardt", "eopp1")}
        figures |= {name: fate.get(name) for name in fate if name.startswith("fate_")}
        told = ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if v is not None)
        height, width = portable.geometry
        return (
            f"**{trial_name(self.records[key]['trial'])}** (node `{key}`). Validation, this seed "
            f"alone: {told}.\n\nTakes uint8 RGB images ({height} x {width}); classes: "
            f"{', '.join(portable.classes)}. Research only, not a medical device; see `card.md`."
        )[:MAX_TAG]

    def _name(self, named: Mapping[str, str], versions: Mapping[str, Any]) -> None:
        """Set the aliases; one that nothing has any more is taken away."""
        had = self.client.get_registered_model(self.name).aliases
        for alias in ALIASES:
            if alias in named:
                wanted = str(versions[named[alias]].version)
                if str(had.get(alias)) != wanted:
                    self.client.set_registered_model_alias(self.name, alias, wanted)
            elif alias in had:
                self.client.delete_registered_model_alias(self.name, alias)


def _example(portable: PortableModel) -> np.ndarray:
    """One image without a patient: a ramp of grey values, in the size that the model takes."""
    height, width = portable.geometry
    ramp_W = np.linspace(0, 255, width).astype(np.uint8)
    return np.broadcast_to(ramp_W[None, None, :, None], (1, height, width, 3)).copy()


def _signature(portable: PortableModel, image_NHWC: np.ndarray) -> ModelSignature:
    """uint8 images in, the columns of ``fatefront predict`` out."""
    import pandas as pd
    from mlflow.models import infer_signature

    from orchestrator.evaluation.predict import prediction_columns

    zeros_NK = np.zeros((1, len(portable.classes)), dtype=np.float32)
    table = pd.DataFrame(prediction_columns(zeros_NK, portable.classes))
    params = {"group": portable.card.groups[0]} if portable.needs_group else None
    return infer_signature(image_NHWC, table, params=params)


def _requirements() -> list[str]:
    return [f"fatefront=={fatefront_version()}", *(f"{p}=={version(p)}" for p in PACKAGES)]
