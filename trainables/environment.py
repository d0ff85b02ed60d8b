"""What decides the figures of a node beside its key: versions of packages, and the processor."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "fatefront", "torch", "torchvision", "torch-pruning", "numpy", "scipy", "scikit-learn",
    "pillow", "safetensors",
)  # fmt: skip
"""Those that compute a node."""
CPUINFO = Path("/proc/cpuinfo")


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Name -> version of what is installed, Python first."""
    return dict(_package_versions(names))


@functools.cache  # the files of every package are searched for each name
def _package_versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "0+source" if name == "fatefront" else "none"
    return found


@functools.cache
def processor() -> str:
    """The processor's name and model, with the instructions that PyTorch's kernels use on it: some
    machines in clouds say no more than who made it.
    """
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    name = told.get("model name") or platform.processor() or platform.machine()
    number = [told[part] for part in ("cpu family", "model") if part in told]
    return f"{name} ({', '.join(['/'.join(number)] * bool(number) + [_capability()])})"


def _capability() -> str:
    import torch

    return torch.backends.cpu.get_cpu_capability()


def environment(device: torch.device) -> dict[str, str]:
    """Name -> version or kind of all that computes a node on this device; without a GPU's where
    there is none.
    """
    import torch

    found = package_versions() | {"cpu": processor()}
    if device.type == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }
    return found


def environment_id(versions: Mapping[str, str]) -> str:
    """Twelve digits that are the same for the same versions."""
    text = json.dumps(dict(versions), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
