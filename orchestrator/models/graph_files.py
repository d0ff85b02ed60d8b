"""A model as a file that other tools run: ONNX, or a program of ``torch.export``.

Each is made beside its place, run, compared with the model that it was made from, and only then
put there. Images are float32 in [0, 1], (N, 3, S, S), and any number of them; the graph normalises
them by itself.

Shape legend: N images, S side in pixels, K classes.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.progress_bar import counted
from trainables.errors import UserError
from trainables.portable import PortableModel, load_portable

if TYPE_CHECKING:
    import torch

Run = Callable[[np.ndarray], np.ndarray]
"""Images (N, 3, S, S) -> logits (N, K)."""

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit (1 at least): float32 kernels add
in another order.
"""
BATCHES = (5, 1)
"""Numbers of images that a graph is tried with."""
INPUT, OUTPUT, NOTE = "image", "logits", "fatefront"


@dataclass(frozen=True)
class GraphFormat:
    """A kind of file.

    Attributes:
        name: as in documents.
        file: its name in the model's folder.
        packages: what making it needs; ``extra`` installs them.
        write: (net, example, note, path) makes the file and returns how to run it.
    """

    name: str
    file: str
    packages: tuple[str, ...]
    write: Callable[[torch.nn.Module, torch.Tensor, str, Path], Run]


def write_graph(folder: Path, kind: GraphFormat) -> dict[str, Any]:
    """Write one graph of an exported model into its folder, once it is known to be right.

    Args:
        folder: of the model.
        kind: of ``FORMATS``.

    Returns:
        ``format``, ``path``, ``num_bytes``, ``max_difference`` (largest difference of a logit from
        the model's), or ``format``, ``path`` None and ``reason``.
    """
    portable = load_portable(folder)
    failed = {"format": kind.name, "path": None, "num_bytes": None, "max_difference": None}
    if portable.needs_group:
        reason = "the model reads each image's group to predict, and the graph takes images alone"
        return failed | {"reason": reason}
    place = folder / kind.file
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=folder) as scratch:
        draft = Path(scratch) / kind.file
        try:
            difference, limit = _made(portable, kind, draft)
        except Exception as error:  # exporters have no common type for what they cannot trace
            lines = str(error).strip().splitlines() or [""]
            return failed | {"reason": f"{type(error).__name__}: {lines[0][:300]}"}
        if difference > limit:
            reason = f"its logits differ by {difference:.3g}, more than {limit:.3g}"
            return failed | {"reason": reason}
        draft.replace(place)
    return {
        "format": kind.name, "path": str(place), "num_bytes": place.stat().st_size,
        "max_difference": difference, "reason": None,
    }  # fmt: skip


def _made(portable: PortableModel, kind: GraphFormat, draft: Path) -> tuple[float, float]:
    """Write a graph and run it; returns the largest difference and what is allowed."""
    import torch

    from orchestrator.models.graph import exportable

    card, net = portable.card, exportable(portable)
    note = {"key": card.key, "classes": card.classes, "image_size": card.image_size}
    side = card.image_size
    # two images: with one the graph would take single images only
    example = torch.linspace(0, 1, 2 * 3 * side * side).reshape(2, 3, side, side)
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        run = kind.write(net, example, json.dumps(note), draft)
    difference, largest = 0.0, 1.0
    rng = np.random.default_rng(0)
    for number in BATCHES:
        image_NHWC = rng.integers(0, 256, (number, *portable.geometry, 3), dtype=np.uint8)
        expected_NK = portable.logits(image_NHWC)
        found_NK = run(scaled(image_NHWC, side))
        if found_NK.shape != expected_NK.shape or not np.isfinite(found_NK).all():
            raise ValueError(f"logits of shape {found_NK.shape}, or not finite")
        difference = max(difference, float(np.abs(found_NK - expected_NK).max()))
        largest = max(largest, float(np.abs(expected_NK).max()))
    return difference, TOLERANCE * largest


def scaled(image_NHWC: np.ndarray, side: int) -> np.ndarray:
    """What a graph takes, of uint8 images (N, H, W, 3): their centre square, (N, 3, S, S)."""
    height, width = image_NHWC.shape[1:3]
    top, left = round((height - side) / 2), round((width - side) / 2)  # as in training
    square = image_NHWC[:, top : top + side, left : left + side]
    return np.ascontiguousarray(square.transpose(0, 3, 1, 2)).astype(np.float32) / 255


def _onnx(net: torch.nn.Module, example: torch.Tensor, note: str, path: Path) -> Run:
    import onnx
    import onnxruntime
    import torch

    torch.onnx.export(
        net, (example,), str(path), dynamo=True, verbose=False, external_data=False,
        input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("N")},),
    )  # fmt: skip
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {NOTE: note})
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run([OUTPUT], {INPUT: image})[0])


def _torch_program(net: torch.nn.Module, example: torch.Tensor, note: str, path: Path) -> Run:
    import torch

    shapes = ({0: torch.export.Dim("N")},)
    program = torch.export.export(net, (example,), dynamic_shapes=shapes)
    program.example_inputs = None  # they would be a pickle in the file
    torch.export.save(program, str(path), extra_files={NOTE: note})
    loaded = torch.export.load(str(path)).module()

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(loaded(torch.from_numpy(image)).numpy())

    return run


FORMATS: Mapping[str, GraphFormat] = {
    "onnx": GraphFormat("onnx", "model.onnx", ("onnx", "onnxscript", "onnxruntime"), _onnx),
    "torch_export": GraphFormat("torch_export", "model.pt2", (), _torch_program),
}


def check_formats(names: Sequence[str]) -> None:
    """Whether what the formats need is installed.

    Raises:
        UserError: it is not.
    """
    for name in names:
        missing = [p for p in FORMATS[name].packages if find_spec(p) is None]
        if missing:
            option = name.replace("_", "-")
            raise UserError(
                f"--{option} needs {', '.join(missing)}: pip install 'fatefront[{option}]'"
            )


def write_graphs(models: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """``write_graph`` for each exported model and format; a list a model."""
    shown = counted(models, len(models), "graphs of models")
    return [[write_graph(Path(m["path"]), FORMATS[name]) for name in names] for m in shown]
