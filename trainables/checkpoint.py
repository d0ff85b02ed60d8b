"""An unfinished training as one file of the store, so that a lost worker costs an interval of it.

What goes on from a checkpoint gives the same weights, to the bit, as what was never interrupted:
the file has the model, the optimizer, what the baseline keeps, and how the epochs went. It has no
state of random generators, for every epoch draws from streams of its own (`streams.py`).

The file is the SHA-256 of the rest, a line feed, and safetensors with a JSON document as metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from trainables.models.classifier import Classifier

if TYPE_CHECKING:
    from trainables.baselines.base import Baseline

FORMAT = 1
MODEL, MASKS, OPTIMIZER, BASELINE, BEST = "model/", "masks/", "optimizer/", "baseline/", "best/"


class CheckpointError(Exception):
    """A checkpoint that cannot be gone on from; one line that says why."""


@dataclass
class Standing:
    """How far a training is, beside its model and optimizer."""

    curves: list[dict[str, float]] = field(default_factory=list)
    """Metrics of every epoch that is done."""
    best: dict[str, Tensor] | None = None
    """The state of the best epoch, where training may stop early."""
    best_loss: float | None = None
    waited: int = 0
    """Epochs since the best one."""

    def takes(self, loss: float, model: Classifier) -> None:
        """Note an epoch's validation loss, and the model where it is the lowest so far."""
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best = {k: v.detach().clone() for k, v in model.state_dict().items()}
        else:
            self.waited += 1


@dataclass(frozen=True)
class Packed:
    """The content of a checkpoint: tensors by name, and the rest as JSON."""

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]

    def of(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, by their own names."""
        size = len(prefix)
        return {n[size:]: t for n, t in self.tensors.items() if n.startswith(prefix)}


def pack(
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    baseline: Baseline,
    standing: Standing,
    about: Mapping[str, Any],
) -> bytes:
    """A training between two epochs; ``about`` is JSON of the caller's."""
    parts: dict[str, Mapping[str, Tensor]] = {
        MODEL: model.state_dict(),
        MASKS: model.masks,
        BASELINE: baseline.state_dict(),
        BEST: standing.best or {},
    }
    tensors, settings = _optimizer_parts(optimizer)
    parts[OPTIMIZER] = tensors
    document = {
        "format": FORMAT,
        "standing": {k: v for k, v in vars(standing).items() if k != "best"},
        "has_best": standing.best is not None,
        "optimizer": settings,
        "about": dict(about),
    }
    flat = {
        prefix + name: tensor.detach().cpu().contiguous().clone()
        for prefix, part in parts.items()
        for name, tensor in part.items()
    }
    content = save_tensors(flat, {"document": json.dumps(document, allow_nan=False)})
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unpack(data: bytes) -> Packed:
    """The content of a checkpoint.

    Raises:
        CheckpointError: not one, damaged, or of another format.
    """
    digest, _, content = data.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise CheckpointError("damaged: its content is not what its checksum says")
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        document = json.loads(header["__metadata__"]["document"])
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"unreadable: {type(error).__name__}") from None
    if not isinstance(document, dict) or not isinstance(document.get("about"), dict):
        raise CheckpointError("unreadable: it does not say of what it is")
    if document.get("format") != FORMAT:
        raise CheckpointError(f"of format {document.get('format')}, not {FORMAT}")
    return Packed(tensors, document)


def restore(
    packed: Packed, model: Classifier, optimizer: torch.optim.Optimizer, baseline: Baseline
) -> Standing:
    """Put a training back to where it was, in place.

    Raises:
        CheckpointError: it is that of another model or optimizer; nothing was changed.
    """
    state = packed.of(MODEL)
    shapes = {name: tuple(t.shape) for name, t in state.items()}
    if shapes != {name: tuple(t.shape) for name, t in model.state_dict().items()}:
        raise CheckpointError("of a model of another shape")
    settings = packed.document["optimizer"]
    sizes = [len(group["params"]) for group in settings["param_groups"]]
    if sizes != [len(group["params"]) for group in optimizer.param_groups]:
        raise CheckpointError("of another optimizer")
    device = next(model.parameters()).device
    kept = {name: t.to(device) for name, t in packed.of(BASELINE).items()}
    if kept or baseline.state_dict():
        baseline.load_state_dict(kept)
    model.load_state_dict(state)
    model.masks = {name: t.to(device) for name, t in packed.of(MASKS).items()}
    optimizer.load_state_dict(_optimizer_state(packed.of(OPTIMIZER), settings))
    standing = Standing(**packed.document["standing"])
    if packed.document["has_best"]:
        standing.best = {name: t.to(device) for name, t in packed.of(BEST).items()}
    return standing


def _optimizer_parts(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of an optimizer's state by ``NUMBER/NAME``, and all else as JSON."""
    state = optimizer.state_dict()
    tensors, plain = {}, {}
    for number, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{number}/{name}"] = value
            else:
                plain[f"{number}/{name}"] = value
    return tensors, {"plain": plain, "param_groups": state["param_groups"]}


def _optimizer_state(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for path, value in {**settings["plain"], **tensors}.items():
        number, _, name = path.partition("/")
        state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": settings["param_groups"]}
