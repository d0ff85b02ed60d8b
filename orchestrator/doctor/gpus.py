"""PyTorch and the GPUs: each is used once, and NVIDIA's driver is asked what else is on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

from orchestrator.doctor.finding import Finding, fail, ok, warn

QUERY = (
    "--query-gpu=index,name,memory.used,memory.total,compute_mode",
    "--format=csv,noheader,nounits",
)
BUSY = 0.5
"""Share of a GPU's memory that others hold, above which it is worth a warning."""


def check_gpus() -> Iterator[Finding]:
    """One line a GPU, or why there is none."""
    import torch

    rows = gpu_rows()
    cores = len(os.sched_getaffinity(0))
    if not torch.cuda.is_available():
        if not rows:
            yield ok(
                "gpu", f"torch {torch.__version__}; no NVIDIA GPU: trials run on {cores} cores"
            )
        elif os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            yield warn(
                "gpu", f"{len(rows)} GPUs are hidden by an empty CUDA_VISIBLE_DEVICES",
                "unset CUDA_VISIBLE_DEVICES",
            )  # fmt: skip
        elif torch.version.cuda is None:
            yield fail(
                "gpu", f"{len(rows)} GPUs, but torch {torch.__version__} is a build without CUDA",
                "pip install torch torchvision from https://pytorch.org/get-started for your CUDA",
            )  # fmt: skip
        else:
            yield fail(
                "gpu", f"{len(rows)} GPUs, but torch's CUDA {torch.version.cuda} cannot use them",
                "update NVIDIA's driver (`nvidia-smi` shows the CUDA that it takes at most)",
            )  # fmt: skip
        return
    for index in range(torch.cuda.device_count()):
        yield _use(index)
    yield from busy(rows)


def _use(index: int) -> Finding:
    """A product of two matrices on one GPU."""
    import torch

    name = torch.cuda.get_device_name(index)
    try:
        ones = torch.ones(256, 256, device=f"cuda:{index}")
        total = float((ones @ ones).sum())
        del ones
        torch.cuda.empty_cache()
    except RuntimeError as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return fail(
            "gpu", f"GPU {index} ({name}) does not compute: {line}",
            "end what else is on it, or leave it out by CUDA_VISIBLE_DEVICES",
        )  # fmt: skip
    if total != 256.0**3:
        return fail("gpu", f"GPU {index} ({name}) computes wrongly", "have the hardware looked at")
    memory = torch.cuda.get_device_properties(index).total_memory / 1e9
    return ok("gpu", f"GPU {index}: {name}, {memory:.0f} GB, CUDA {torch.version.cuda}")


def gpu_rows() -> list[list[str]]:
    """Index, name, MB used, MB in all, compute mode of each GPU that the driver knows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    return [row for row in rows if len(row) == 5]


def busy(rows: list[list[str]]) -> Iterator[Finding]:
    """GPUs that others fill, or that only one process may use."""
    for index, name, used, total, mode in rows:
        if used.isdigit() and total.isdigit() and int(used) > BUSY * int(total):
            yield warn(
                "gpu", f"GPU {index} ({name}): {int(used) / 1e3:.0f} of {int(total) / 1e3:.0f} GB "
                "are in use already",
                f"see `nvidia-smi`; others: CUDA_VISIBLE_DEVICES without {index}",
            )  # fmt: skip
        if mode.lower().startswith("exclusive"):
            yield warn(
                "gpu", f"GPU {index} ({name}) is in compute mode {mode}: trials cannot share it",
                f"nvidia-smi -i {index} -c DEFAULT (root), or --gpus-per-trial 1",
            )  # fmt: skip
