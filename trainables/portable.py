"""A model as a folder that anyone can load: no pickle, no sweep, no store.

``weights.safetensors`` (and ``masks.safetensors``), and ``model.json``, which says how the net is
built from code and what its classes, images and figures are. ``model.json`` is written last: a
folder that has one is whole.

Shape legend: N images, H height, W width, C colour channels, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from trainables.errors import UserError
from trainables.plain_file import MAX_TEXT_BYTES, check_plain, read_plain
from trainables.specs import Spec, validate
from trainables.store import Store, StoreError
from trainables.trial_spec import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.baselines.base import Baseline
    from trainables.models.classifier import Classifier

FORMAT_VERSION = 1
MODEL, WEIGHTS, MASKS = "model.json", "weights.safetensors", "masks.safetensors"


class ModelCard(Spec):
    """What ``model.json`` holds; ``orchestrator/schemas/model.json`` is its JSON Schema."""

    format_version: Literal[1] = 1
    trial: Trial
    plan: dict[str, dict[str, Any]] = Field(description="layer -> site, num_channels, removed")
    classes: tuple[str, ...] = Field(min_length=2)
    groups: tuple[str, ...] = ()
    attribute: str | None = Field(None, description="whose values the groups are")
    image_size: int = Field(ge=1, description="side in pixels of what the net sees")
    aspect: float = Field(1.0, ge=1.0, le=2.0, description="width / height of the images given")
    normalise: Literal["none", "imagenet"]
    key: str = Field(description="the node this model comes from")
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    masks_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    fatefront: str
    metrics: dict[str, Any] = Field({}, description="figures on the validation split")


def fatefront_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("fatefront")
    except PackageNotFoundError:
        return "0+source"


def save_portable(store: Store, key: str, folder: Path, extra: Mapping[str, Any]) -> Path:
    """Write the model of a stored node as a portable folder; returns the folder.

    Args:
        store: holds the node.
        key: the node.
        folder: made if missing; a model that is there already is replaced.
        extra: what the node does not know: ``groups`` (names, in order), ``aspect``,
            ``attribute``, ``metrics``.

    Raises:
        StoreError: the node or its weights are gone or damaged.
    """
    node = store.node(key)
    if node is None:
        raise StoreError(f"node {key} is not in {store.uri}")
    weights = store.read(key, WEIGHTS)
    masks = store.read(key, MASKS) if MASKS in node["files"] else None
    trial = Trial.model_validate(node["trial"])
    known = {"classes": node["classes"], "image_size": node["image_size"], "plan": node["plan"]}
    card = validate(
        ModelCard,
        known | dict(extra) | {
            "trial": trial,
            "normalise": recipe_of(trial).normalise,
            "key": key,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "masks_sha256": None if masks is None else hashlib.sha256(masks).hexdigest(),
            "fatefront": fatefront_version(),
        },
        place=f"model of node {key}",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, MASKS):
        (folder / name).unlink(missing_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    if masks is not None:
        (folder / MASKS).write_bytes(masks)
    draft = folder / f".{MODEL}"
    draft.write_text(json.dumps(card.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")
    draft.replace(folder / MODEL)
    return folder


def recipe_of(trial: Trial) -> Any:
    """The recipe that the trial's last training used; its normalisation holds at inference."""
    return trial.prune.finetune if trial.prune else trial.baseline.training


@dataclass(frozen=True)
class PortableModel:
    """A loaded model, in eval mode, on one device."""

    card: ModelCard
    model: Classifier
    baseline: Baseline
    device: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the logits' columns."""
        return self.card.classes

    @property
    def needs_group(self) -> bool:
        """Whether the model reads each image's group to predict."""
        return bool(self.baseline.needs_group_at_inference)

    @property
    def geometry(self) -> tuple[int, int]:
        """(height, width) in pixels of the images ``logits`` takes."""
        return self.card.image_size, round(self.card.image_size * self.card.aspect)

    def logits(
        self, image_NHWC: np.ndarray, group_N: np.ndarray | None = None, *, batch_size: int = 512
    ) -> np.ndarray:
        """float32 logits (N, K) of uint8 images of ``geometry``, cropped and normalised as in
        training.

        On the machine that trained it, with the batches of a trial (512 images), these are the
        logits that the trial stored, before they were rounded to float16.

        Args:
            image_NHWC: uint8.
            group_N: number of each image's group among the card's; read only for ``needs_group``.
            batch_size: images at once.

        Raises:
            ValueError: images of another type or size.
            UserError: the model needs groups and got none, or not one of its own for each image.
        """
        import torch

        image_NHWC = self._checked(image_NHWC)
        if self.needs_group and group_N is None:
            raise UserError(
                f"baseline {self.card.trial.baseline.name} needs each image's group to predict "
                f"(groups: {', '.join(self.card.groups)})"
            )
        if group_N is None or not self.needs_group:
            group_N = np.full(len(image_NHWC), -1, dtype=np.int64)
        else:
            self._check_groups(np.asarray(group_N), len(image_NHWC))
        groups = torch.from_numpy(np.array(group_N, dtype=np.int64)).to(self.device)
        parts = self.read(
            lambda model, image_NCHW, rows: self.baseline.logits(model, image_NCHW, groups[rows]),
            image_NHWC, batch_size=batch_size,
        )  # fmt: skip
        return np.concatenate([np.zeros((0, len(self.classes)), dtype=np.float32), *parts])

    def read(
        self,
        function: Callable[[Classifier, Tensor, slice], Tensor],
        image_NHWC: np.ndarray,
        *,
        batch_size: int = 512,
    ) -> list[np.ndarray]:
        """float32 arrays: what ``function`` makes of the model, each batch of images, cropped and
        normalised as in training (N, C, H, W), and the batch's rows.

        Raises:
            ValueError: images of another type or size.
        """
        import torch

        from trainables.data.augment import apply_eval, normalisation

        image_NHWC = self._checked(image_NHWC)
        mean, std = normalisation(self.card.normalise)
        kind = torch.device(self.device).type
        layout = torch.channels_last if kind == "cuda" else torch.contiguous_format
        bf16 = self.card.trial.compute.resolved(self.device).precision == "bf16"
        parts = []
        for start in range(0, len(image_NHWC), batch_size):
            rows = slice(start, start + batch_size)
            image = torch.from_numpy(np.array(image_NHWC[rows])).to(self.device)
            image = apply_eval(image, image_size=self.card.image_size, mean=mean, std=std)
            image = image.contiguous(memory_format=layout)
            with torch.inference_mode(), torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16):
                parts.append(function(self.model, image, rows).float().cpu().numpy())
        return parts

    def _checked(self, image_NHWC: np.ndarray) -> np.ndarray:
        image_NHWC = np.asarray(image_NHWC)
        if image_NHWC.dtype != np.uint8 or image_NHWC.shape[1:] != (*self.geometry, 3):
            height, width = self.geometry
            raise ValueError(
                f"images must be uint8 (N, {height}, {width}, 3) but are {image_NHWC.dtype} "
                f"{image_NHWC.shape}"
            )
        return image_NHWC

    def _check_groups(self, group_N: np.ndarray, num_images: int) -> None:
        if group_N.shape != (num_images,):
            raise UserError(f"{num_images} images need as many groups but got {group_N.shape}")
        names = self.card.groups
        wrong = group_N[(group_N < 0) | (group_N >= len(names))]
        if len(wrong):
            raise UserError(
                f"baseline {self.card.trial.baseline.name} needs each image's group to predict "
                f"but {len(wrong)} of {num_images} are unknown (first: {wrong[0]}; groups: "
                f"0 to {len(names) - 1} for {', '.join(names)})"
            )


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """Probabilities (N, K), float64, of logits."""
    power_NK = np.exp(logits_NK.astype(np.float64) - logits_NK.max(1, keepdims=True))
    return np.asarray(power_NK / power_NK.sum(1, keepdims=True))


def load_portable(folder: Path | str, device: str = "cpu") -> PortableModel:
    """The model of a portable folder; nothing in the folder is executed.

    Raises:
        UserError: no model there, of an unknown format, or damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from trainables.baselines.base import Task
    from trainables.node import empty_model
    from trainables.registry import baselines

    folder = Path(folder)
    card = read_card(folder)
    weights = _read(folder, WEIGHTS, card.weights_sha256)
    masks = None if card.masks_sha256 is None else _read(folder, MASKS, card.masks_sha256)
    groups = tuple(card.groups)
    task = Task(num_classes=len(card.classes), num_groups=len(groups), groups=groups)
    baseline = baselines.get(card.trial.baseline.name)(card.trial.baseline, task)
    try:
        model = empty_model(card.trial, baseline, card.plan)
        model.load_state_dict(load_tensors(weights))
        model.masks = {} if masks is None else load_tensors(masks)
    except (SafetensorError, RuntimeError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: the weights do not fit what {MODEL} describes ({reason})"
        ) from None
    if torch.device(device).type == "cuda":
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.to(device).eval()
    model.masks = {name: mask.to(device) for name, mask in model.masks.items()}
    return PortableModel(card, model, baseline, device)


def read_card(folder: Path) -> ModelCard:
    """``model.json`` of a portable folder, checked.

    Raises:
        UserError: no model there, or of an unknown format.
    """
    path = folder / MODEL
    try:
        document = json.loads(read_plain(path, MAX_TEXT_BYTES).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"no model in {folder}: it has no {MODEL} (models come from `fatefront export`)"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    found = document.get("format_version") if isinstance(document, dict) else None
    if found != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version must be {FORMAT_VERSION} but got {found!r} (made by another "
            f"fatefront?)"
        )
    return validate(ModelCard, document, place=str(path))


def _read(folder: Path, name: str, sha256: str) -> bytes:
    try:
        check_plain(folder / name)
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{folder} has no {name}") from None
    except OSError as error:
        raise UserError(f"{folder / name}: {error.strerror or error}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{folder / name} is damaged: its SHA-256 is not the one in {MODEL}")
    return data
