"""A trained and pruned net as a scikit-learn classifier: ``predict``, ``predict_proba``,
``classes_``.

Shape legend: N images, H height, W width, K classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from trainables.errors import UserError
from trainables.portable import load_portable, save_portable, softmax
from trainables.store import Store

if TYPE_CHECKING:
    from trainables.portable import PortableModel


class PrunedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """An exported model, or a node of a store, as a scikit-learn classifier.

    It is trained already: ``fit`` loads the weights and leaves them as they are, whatever it is
    given, so that ``clone`` and pipelines work. Images are uint8 arrays; labels are class names.

    Attributes:
        classes_: names of the classes, in the order of the columns of ``predict_proba``.
        n_classes_: how many.
        groups_: names of the groups that the net was trained with.
    """

    def __init__(
        self, model: str | Path, *, store: str | None = None, groups: Sequence[str] = (),
        aspect: float = 1.0, device: str = "cpu", batch_size: int = 64,
    ) -> None:  # fmt: skip
        """Nothing is loaded yet, as scikit-learn wants it; ``load`` does both.

        Args:
            model: folder of an exported model; with ``store`` the key of a node.
            store: URI of a sweep's store (``runs/NAME/store``).
            groups: with ``store``: names of the sweep's groups, in the manifest's order; needed
                where the baseline reads them.
            aspect: with ``store``: width / height of the data set's images (``data.aspect``).
            device: cpu or cuda.
            batch_size: images at once.
        """
        self.model = model
        self.store = store
        self.groups = groups
        self.aspect = aspect
        self.device = device
        self.batch_size = batch_size

    @classmethod
    def load(cls, model: str | Path, **options: Any) -> PrunedClassifier:
        """A classifier that is ready to predict; ``options`` of the constructor.

        Raises:
            UserError: no model there, or it is damaged.
            StoreError: the node or its weights are gone.
        """
        return cls(model, **options).fit()

    def fit(self, X: Any = None, y: Any = None) -> PrunedClassifier:
        """Load the weights; nothing is trained.

        Raises:
            UserError: no model there, or labels that the net does not know.
            StoreError: the node or its weights are gone.
        """
        if not hasattr(self, "portable_"):
            self._take(self._loaded())
        unknown = set() if y is None else set(np.unique(y).tolist()) - set(self.classes_.tolist())
        if unknown:
            raise UserError(
                f"labels that the net does not know: {', '.join(map(str, sorted(unknown)))} "
                f"(classes: {', '.join(self.classes_)})"
            )
        return self

    def _loaded(self) -> PortableModel:
        if self.store is None:
            return load_portable(self.model, self.device)
        extra = {"groups": tuple(self.groups), "aspect": self.aspect}
        with tempfile.TemporaryDirectory() as scratch:
            folder = save_portable(Store(self.store), str(self.model), Path(scratch), extra)
            return load_portable(folder, self.device)

    def _take(self, portable: PortableModel) -> None:
        self.portable_ = portable
        self.classes_ = np.array(portable.classes)
        self.n_classes_ = len(self.classes_)
        self.groups_ = np.array(portable.card.groups)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the weights are loaded."""
        return hasattr(self, "portable_")

    def __sklearn_tags__(self) -> Any:
        """Images in, no table of numbers; nothing is trained."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.target_tags.required = False
        tags.no_validation = True
        return tags

    def decision_function(self, X: Any, groups: Any = None) -> np.ndarray:
        """Logits (N, K), float32.

        Args:
            X: uint8 (N, H, W, 3), of the size that the model takes.
            groups: names of the images' groups, for models that read them; not looked at by
                others.

        Raises:
            NotFittedError: the weights are not loaded.
            ValueError: images of another type or size.
            UserError: groups that are missing or unknown.
        """
        if not hasattr(self, "portable_"):
            raise NotFittedError("no weights loaded: PrunedClassifier.load(folder), or fit()")
        group_N = self._groups(groups)
        portable = cast("PortableModel", self.portable_)
        return portable.logits(np.asarray(X), group_N, batch_size=self.batch_size)

    def _groups(self, groups: Any) -> np.ndarray | None:
        if groups is None or not self.portable_.needs_group:
            return None
        number = {name: position for position, name in enumerate(self.groups_.tolist())}
        return np.array([number.get(str(name), -1) for name in groups], dtype=np.int64)

    def predict_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Softmax of the logits, float64 (N, K); see ``decision_function``."""
        return softmax(self.decision_function(X, groups))

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Names of the classes with the highest logit (N); see ``decision_function``."""
        logits_NK = self.decision_function(X, groups)
        return np.asarray(self.classes_[logits_NK.argmax(1)])
