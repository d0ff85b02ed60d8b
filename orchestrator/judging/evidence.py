"""What intervals, floors and verdicts are computed from: stored predictions of a sweep's nodes.

Shape legend: N images of one split, A arms, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.datasets.images import SplitImages, ids_digest, read_images
from trainables.metrics.detectable import smallest_detectable_gap
from trainables.metrics.floor import PermutationFloor, permutation_floor
from trainables.metrics.replicates import Replicates, replicate_metrics
from trainables.predictions import FILES, Predictions
from trainables.store import Store, StoreError

if TYPE_CHECKING:
    from trainables.metrics.corrected_gap import CorrectedGap

REPLICATES = 2_000
"""Of patients, and of permutations: the ends of a 95 % interval move by about 2 % of its width."""
MAX_CELLS = 2_000_000
"""Configurations x seeds x replicates of one metric: 16 MB in float64, five of them."""
MIN_REPLICATES = 300
DETECTABLE_REPLICATES = 500
"""A smallest detectable gap is found by bisection, each step over all of them."""


class Evidence:
    """Predictions of a sweep's nodes on one split, and what follows from them; reads are cached.

    Args:
        store: where the nodes lie.
        images: of the split.
        records: key -> record; a node's predictions must be those its record was made from.
        split: ``validation``, or ``test`` where it has been opened.
    """

    def __init__(
        self,
        store: Store,
        images: SplitImages,
        records: Mapping[str, Mapping[str, Any]],
        split: str = "validation",
    ) -> None:
        self.store = store
        self.images = images
        self.records = records
        self.split = split
        self._predictions: dict[str, np.ndarray] = {}
        self._floors: dict[tuple[str, ...], PermutationFloor] = {}
        self._replicates: dict[tuple[int, int, int], dict[str, Replicates]] = {}

    def prediction_N(self, key: str) -> np.ndarray:
        """Predicted class of each image.

        Raises:
            StoreError: the predictions are gone, damaged, of other images or not the record's.
        """
        if key not in self._predictions:
            stored = Predictions.from_bytes(self.store.read(key, FILES[self.split]))
            if ids_digest(stored.image_id_N) != self.images.digest:
                raise StoreError(f"predictions of node {key} are not of the {self.split} split")
            record = self.records.get(key)
            if record is not None and record.get("result"):
                wanted = record["result"].get("model", {}).get("predictions_sha256", {})
                if wanted.get(self.split, stored.digest()) != stored.digest():
                    raise StoreError(
                        f"predictions of node {key} are not those of its record (computed again "
                        "elsewhere?)"
                    )
            self._predictions[key] = stored.prediction_N().astype(np.int16)
        return self._predictions[key]

    def missing(self, keys: Iterable[str]) -> dict[str, str]:
        """Key -> why its predictions cannot be read, for those that cannot."""
        problems = {}
        for key in keys:
            try:
                self.prediction_N(key)
            except StoreError as error:
                problems[key] = str(error)
        return problems

    def replicates(
        self,
        keys_AS: Sequence[Sequence[str | None]],
        *,
        num_replicates: int = REPLICATES,
        seed: int = 0,
        min_support: int = 1,
        keep: bool = False,
    ) -> Replicates:
        """F1 and gaps of arms and seeds with patients resampled, the same draws for all.

        None stands for a seed that an arm does not have. ``keep``: what is computed for a node is
        kept, for one who asks again with more nodes.

        Raises:
            StoreError: predictions of a node cannot be read.
        """
        if keep:
            return self._kept(keys_AS, num_replicates, seed, min_support)
        nothing_N = np.zeros(len(self.images.label_N), dtype=np.int16)
        prediction_ASN = np.stack(
            [
                np.stack([nothing_N if key is None else self.prediction_N(key) for key in keys])
                for keys in keys_AS
            ]
        )
        return replicate_metrics(
            self.images.label_N,
            self.images.group_N,
            self.images.patient_N,
            prediction_ASN,
            num_classes=self.images.num_classes,
            num_groups=self.images.num_groups,
            num_replicates=num_replicates,
            seed=seed,
            min_support=min_support,
            present_AS=np.array([[key is not None for key in keys] for keys in keys_AS]),
        )

    def _kept(
        self,
        keys_AS: Sequence[Sequence[str | None]],
        num_replicates: int,
        seed: int,
        min_support: int,
    ) -> Replicates:
        """The same node by node: draws do not depend on which arms are asked for together."""
        kept = self._replicates.setdefault((num_replicates, seed, min_support), {})
        wanted = dict.fromkeys(key for keys in keys_AS for key in keys if key is not None)
        for new in wanted:
            if new not in kept:
                kept[new] = self.replicates(
                    [[new]], num_replicates=num_replicates, seed=seed, min_support=min_support
                )
        example = kept[next(iter(wanted))]
        shape = (len(keys_AS), len(keys_AS[0]))
        value = {name: np.full(shape, np.nan) for name in example.value_AS}
        replicate = {name: np.full((num_replicates, *shape), np.nan) for name in value}
        assert example.flat_ASK is not None
        flat_ASK = np.zeros((*shape, example.flat_ASK.shape[-1]), dtype=bool)
        for arm, column in np.ndindex(shape):
            key = keys_AS[arm][column]
            if key is not None:
                flat_ASK[arm, column] = np.asarray(kept[key].flat_ASK)[0, 0]
                for name in value:
                    value[name][arm, column] = kept[key].value_AS[name][0, 0]
                    replicate[name][:, arm, column] = kept[key].replicate_RAS[name][:, 0, 0]
        present_AS = np.array([[key is not None for key in keys] for keys in keys_AS])
        return replace(
            example,
            value_AS=value,
            replicate_RAS=replicate,
            present_AS=present_AS,
            flat_ASK=flat_ASK,
        )

    def floor(self, keys_S: Sequence[str]) -> PermutationFloor:
        """Each gap of a configuration beside its permutation distribution.

        Raises:
            StoreError: predictions of a node cannot be read.
        """
        name = tuple(keys_S)
        if name not in self._floors:
            self._floors[name] = permutation_floor(
                *self._of(keys_S),
                num_classes=self.images.num_classes,
                num_groups=self.images.num_groups,
                num_replicates=REPLICATES,
            )
        return self._floors[name]

    def debiased(self, keys_S: Sequence[str]) -> Mapping[str, CorrectedGap | None]:
        """Each gap of a configuration with the sampling variance of its rates taken off.

        Raises:
            StoreError: predictions of a node cannot be read.
        """
        from trainables.metrics.corrected_gap import gap_debiased

        return gap_debiased(
            *self._of(keys_S),
            num_classes=self.images.num_classes,
            num_groups=self.images.num_groups,
        )

    def detectable(self, keys_S: Sequence[str], gap: str) -> float | None:
        """The smallest gap that the permutation test on this split finds with 80 % power.

        Raises:
            StoreError: predictions of a node cannot be read.
        """
        return smallest_detectable_gap(
            *self._of(keys_S),
            num_classes=self.images.num_classes,
            num_groups=self.images.num_groups,
            gap=gap,
            num_replicates=DETECTABLE_REPLICATES,
        ).gap

    def _of(self, keys_S: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        prediction_SN = np.stack([self.prediction_N(key) for key in keys_S])
        images = self.images
        return images.label_N, prediction_SN, images.group_N, images.patient_N


def open_evidence(
    folder: Path,
    manifest: Mapping[str, Any],
    store: Store,
    records: Mapping[str, Mapping[str, Any]],
    split: str = "validation",
) -> Evidence:
    """The evidence of a sweep folder.

    Raises:
        UserError: the folder does not say whose the predictions are.
    """
    return Evidence(store, read_images(folder, manifest, split), records, split)


def num_replicates(num_arms: int, num_seeds: int) -> int:
    """As many as memory allows, at most ``REPLICATES``."""
    return max(MIN_REPLICATES, min(REPLICATES, MAX_CELLS // max(1, num_arms * num_seeds)))
