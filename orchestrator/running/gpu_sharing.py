"""CUDA's multi-process service for trials that share a GPU of this machine.

Without it the processes take turns; with it their kernels run side by side. It is started for the
sweep and ended with it, unless one is there already.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from orchestrator.running.leftovers import enlist

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
SYSTEM_PIPES = Path("/tmp/nvidia-mps")  # where CUDA looks when nothing else is said
TRY = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
for name, *arguments in (
    ("cuInit", 0), ("cuDeviceGet", ctypes.byref(device), 0),
    ("cuDevicePrimaryCtxRetain", ctypes.byref(context), device), ("cuCtxSetCurrent", context),
    ("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(256)),
    ("cuMemsetD8_v2", memory, ctypes.c_ubyte(1), ctypes.c_size_t(256)), ("cuCtxSynchronize",),
):
    if code := getattr(cuda, name)(*arguments):
        raise SystemExit(f"{name} gives error {code}")
"""
"""A client of the service, in the driver's own words: importing torch would take seconds."""
PATIENCE = 120


def service_is_there() -> bool:
    """Whether a multi-process service is set up already, by whoever runs the machine."""
    return bool(os.environ.get(PIPES)) or (SYSTEM_PIPES / "control").exists()


@contextlib.contextmanager
def shared_gpu(folder: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Inside, processes that are started share GPUs well; gives whether they do.

    Args:
        folder: of the sweep; a later start ends there what a killed driver left.
        say: gets one line where the service cannot be used.
    """
    if service_is_there():
        yield True
        return
    control = shutil.which(CONTROL)
    if control is None:
        say(f"note: trials share a GPU by turns, for {CONTROL} is not installed")
        yield False
        return
    place = Path(tempfile.mkdtemp(prefix="fatefront-mps-"))
    before = {name: os.environ.get(name) for name in (PIPES, LOGS)}
    try:
        os.environ[PIPES] = os.environ[LOGS] = str(place)
        problem = _start(control, folder, place)
        if problem:
            _restore(before)
            say(f"note: trials share a GPU by turns, for the multi-process service {problem}")
        yield not problem
    finally:
        os.environ[PIPES] = str(place)
        _end(control, place)
        _restore(before)
        shutil.rmtree(place, ignore_errors=True)


def _start(control: str, folder: Path, place: Path) -> str:
    """Start it and use it once; what went wrong, in words."""
    # with some GPUs hidden it would number the others anew, and its clients would not
    everything = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    try:
        subprocess.run(
            [control, "-d"], check=True, timeout=PATIENCE, capture_output=True, text=True,
            env=everything,
        )  # fmt: skip
        _enlist_all(folder, place)
        subprocess.run(
            [sys.executable, "-c", TRY], check=True, timeout=PATIENCE, capture_output=True,
            text=True,
        )  # fmt: skip
        _enlist_all(folder, place)  # the server came with the first client
    except subprocess.TimeoutExpired:
        return "does not answer"
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        return f"does not work here: {lines[-1] if lines else error.returncode}"
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    return ""


def _pids(place: Path) -> list[int]:
    """The daemon, as it writes itself down, and the servers it started."""
    try:
        daemon = psutil.Process(int((place / f"{CONTROL}.pid").read_text()))
        return [daemon.pid, *(child.pid for child in daemon.children(recursive=True))]
    except (OSError, ValueError, psutil.Error):
        return []


def _enlist_all(folder: Path, place: Path) -> None:
    for pid in _pids(place):
        enlist(folder, pid)


def _end(control: str, place: Path) -> None:
    """Ask it to end, which it does once its clients are gone; then make it."""
    found = []
    for pid in _pids(place):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [control], input="quit\n", timeout=20, capture_output=True, text=True, check=False
        )
    for process in found:
        with contextlib.suppress(psutil.Error):  # gone; a number used again is not killed
            process.kill()


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
