"""The space of ``tests/sweep``, for programs that no pytest has started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sweep"))

from sweep_runs import SPACE as TINY

__all__ = ["TINY"]
