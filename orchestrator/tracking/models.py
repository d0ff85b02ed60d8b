"""Models in MLflow without pickle: a ``pt2`` graph to load anywhere, and the portable folder that
rebuilds it from code.

Each is done once: a logged model and a registered version are found again by the run they come
from.

Shape legend: N images, C colour channels, H height, W width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.models.graph import exportable
from orchestrator.tracking.client import as_default, is_tracking_failure
from orchestrator.tracking.runs import KEY, MAX_TAG, SWEEP_ID
from trainables.store import Store, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

    from trainables.portable import PortableModel

FILES, MODEL = "fatefront.model_files", "fatefront.model"
REQUIREMENTS = ("torch", "numpy", "mlflow")
"""What loading the graph needs; given, because inferring it takes seconds a model."""


class ModelTracking:
    """Logs and registers the models of some runs."""

    def __init__(
        self,
        client: MlflowClient,
        uri: str,
        experiment: str,
        store: Store,
        manifest: Mapping[str, Any],
        spec: Mapping[str, Any],
        records: Mapping[str, Any],
    ) -> None:
        self.client, self.uri, self.experiment = client, uri, experiment
        self.store, self.manifest, self.spec, self.records = store, manifest, spec, records
        self.name = str(manifest["sweep"])

    def run(self, runs: Mapping[str, str], on_front: set[str]) -> dict[str, int]:
        """Log what is missing, then set each version's ``front`` tag; returns counts.

        Args:
            runs: key -> run of the nodes to log.
            on_front: keys of the front's members.
        """
        num_models = num_not_exported = 0
        for key, run_id in runs.items():
            if self._versions(f"name = '{self.name}' and run_id = '{run_id}'"):
                continue
            problem = self._log(key, run_id)
            if problem is None:
                num_models += 1
            else:
                num_not_exported += 1
                self.client.set_tag(run_id, MODEL, problem[:MAX_TAG])
        seen: set[str] = set()
        for found in sorted(self._versions(f"name = '{self.name}'"), key=lambda v: int(v.version)):
            tags = found.tags
            if tags.get(SWEEP_ID) != self.manifest["sweep_id"]:
                continue
            if found.run_id in seen:  # asked for again by a client that waited no longer
                self.client.delete_model_version(self.name, found.version)
                continue
            seen.add(found.run_id)
            value = str(tags.get("key") in on_front).lower()
            if tags.get("front") != value:
                self.client.set_model_version_tag(self.name, found.version, "front", value)
        return {"models": num_models, "not_exported": num_not_exported}

    def _versions(self, query: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_model_versions(query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _log(self, key: str, run_id: str) -> str | None:
        """Weights, graph and version of one node; what stands against the graph, if anything."""
        from trainables.portable import load_portable, save_portable

        data = self.manifest["data"]
        extra = {
            "groups": data["groups"],
            "attribute": data["attribute"],
            "aspect": self.spec["data"].get("aspect", 1.0),
            "metrics": self.records[key]["result"]["metrics"]["validation"],
        }
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = save_portable(self.store, key, Path(scratch), extra)
            except StoreError as error:
                return f"none: {error}"
            if self.client.get_run(run_id).data.tags.get(FILES) != "1":
                self.client.log_artifacts(run_id, str(folder), "model")
                self.client.set_tag(run_id, FILES, "1")
            portable = load_portable(folder)
            if portable.needs_group:
                return "safetensors only: the model reads each image's group to predict"
            logged = logged_model(self.client, self.experiment, "net", run_id, self._tags(key))
            if logged.status != "READY":
                problem = self._export(logged, run_id, portable)
                if problem is not None:
                    self.client.delete_logged_model(logged.model_id)
                    return f"safetensors only: {problem}"
        self._register(key, run_id, logged)
        return None

    def _tags(self, key: str) -> dict[str, str]:
        return {KEY: key, SWEEP_ID: str(self.manifest["sweep_id"])}

    def _export(self, logged: LoggedModel, run_id: str, portable: PortableModel) -> str | None:
        """Log the graph; returns why it cannot be made, if so."""
        import mlflow.pytorch
        import torch
        from mlflow.models import infer_signature

        net = exportable(portable)
        side = portable.card.image_size
        # two images: with one the graph would take single images only
        example_NCHW = torch.linspace(0, 1, 2 * 3 * side * side).reshape(2, 3, side, side)
        with torch.inference_mode():
            output_NK = net(example_NCHW).numpy()
        try:
            with as_default(self.uri):
                mlflow.pytorch.log_model(
                    net,
                    name="net",
                    model_id=logged.model_id,
                    run_id=run_id,
                    serialization_format="pt2",
                    input_example=example_NCHW.numpy(),
                    signature=infer_signature(example_NCHW.numpy(), output_NK),
                    pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
                )
        except Exception as error:  # torch.export has no common type for what it cannot trace
            if is_tracking_failure(error):
                raise
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0]}"
        return None

    def _register(self, key: str, run_id: str, logged: LoggedModel) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        trial = self.records[key]["trial"]
        tags = {
            "key": key,
            SWEEP_ID: str(self.manifest["sweep_id"]),
            "configuration": trial["label"],
            "seed": str(trial["seed"]),
        }
        self.client.create_model_version(
            self.name,
            source=logged.artifact_location,
            run_id=run_id,
            tags=tags,
            model_id=logged.model_id,
            await_creation_for=0,
        )
        self.client.set_tag(run_id, MODEL, f"models:/{logged.model_id}")


def logged_model(
    client: MlflowClient, experiment: str, name: str, run_id: str, tags: Mapping[str, str]
) -> LoggedModel:
    """A run's model of a name in MLflow; one that a kill left half-written is thrown away."""
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    for model in found:
        if model.name != name:
            continue
        if model.status == "READY":
            return model
        client.delete_logged_model(model.model_id)
    return client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=dict(tags), model_type="classifier"
    )
