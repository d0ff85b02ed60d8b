"""The model that MLflow loads: code, kept beside the weights, instead of a pickle.

MLflow copies this file into the model and runs it to load the model ("models from code"); what it
needs of fatefront must be installed there. The weights are the safetensors of an exported folder.

Shape legend: N images, H height, W width.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd

from orchestrator.evaluation.predict import prediction_columns
from trainables.errors import UserError
from trainables.portable import PortableModel, load_portable


class FrontModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]
    """uint8 images (N, H, W, 3) to ``logit_<class>``, ``p_<class>`` and ``y_pred``, the columns of
    ``fatefront predict``.
    """

    model: PortableModel

    def load_context(self, context: Any) -> None:
        """Load the weights, whose SHA-256 is checked; on the GPU where there is one."""
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_portable(context.artifacts["model"], device)

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row an image.

        Args:
            context: MLflow's.
            model_input: uint8 (N, H, W, 3), of the size in the signature.
            params: ``group``: the group of each image, separated by commas; read only by models
                that need it.
        """
        image_NHWC = np.asarray(model_input)
        group_N = self._groups((params or {}).get("group") or "")
        logits_NK = self.model.logits(image_NHWC, group_N)
        return pd.DataFrame(prediction_columns(logits_NK, self.model.classes))

    def _groups(self, told: str) -> np.ndarray | None:
        """Numbers of the groups named; None for a model that reads none."""
        if not self.model.needs_group or not told:
            return None
        known = self.model.card.groups
        names = [name.strip() for name in told.split(",")]
        for name in names:
            if name not in known:
                raise UserError(f"group {name!r} is not known (groups: {', '.join(known)})")
        return np.array([known.index(name) for name in names], dtype=np.int64)


mlflow.models.set_model(FrontModel())
