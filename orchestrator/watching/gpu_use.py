"""How busy the GPUs are: what NVIDIA's driver says of this machine, or Ray of a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass

PAUSE = 5.0
"""Seconds between two looks."""
PATIENCE = 5.0
QUERY = ("--query-gpu=index,uuid,utilization.gpu", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class GpuUse:
    """``percent``: share of the time in which a kernel was running, mean over ``num`` GPUs."""

    percent: float
    num: int


class GpuMeter:
    """Asks the driver at most every few seconds: through its library where nvidia-ml-py is
    installed (the extra ``gpu``; containers often have no ``nvidia-smi``, and no process is
    started), else through ``nvidia-smi``.
    """

    def __init__(self) -> None:
        self._program = shutil.which("nvidia-smi")
        self._looked = -PAUSE
        self._seen: GpuUse | None = None

    def use(self) -> GpuUse | None:
        """Of the GPUs that this process may use; None where there is none or nothing is said."""
        now = time.monotonic()
        if now >= self._looked + PAUSE:
            said = library_says()
            if said is None and self._program is not None:
                said = _program_says(self._program)
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            self._seen = None if said is None else parse_use(said, visible)
            self._looked = time.monotonic()
        return self._seen


def library_says() -> str | None:
    """The lines of ``parse_use`` from NVIDIA's library; None where it or its driver is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    lines = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
            try:
                percent = str(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
            except pynvml.NVMLError:  # of a GPU that is divided
                percent = "[N/A]"
            lines.append(f"{index}, {pynvml.nvmlDeviceGetUUID(gpu)}, {percent}")
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return "\n".join(lines)


def _program_says(program: str) -> str | None:
    try:
        return subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=PATIENCE, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def parse_use(said: str, visible: str | None) -> GpuUse | None:
    """The mean of the GPUs that ``CUDA_VISIBLE_DEVICES`` names (all where it is not set).

    Args:
        said: lines of index, UUID, percent; where a GPU is divided, percent is no number.
        visible: indices or UUIDs (their beginnings will do), separated by commas.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    names = None if visible is None else [n.strip() for n in visible.split(",") if n.strip()]
    percents = [
        float(row[2])
        for row in rows
        if len(row) == 3
        and row[2].isdigit()
        and (names is None or any(row[0] == n or row[1].startswith(n) for n in names))
    ]
    return GpuUse(sum(percents) / len(percents), len(percents)) if percents else None
