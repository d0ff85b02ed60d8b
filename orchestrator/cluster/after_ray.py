"""Ends what is left of Ray on a worker when its node is gone.

``python -m orchestrator.cluster.after_ray PIDFILE``, for a worker's start commands; with
``--former`` it only ends the one that an earlier start left. `ray down` on machines of one's own
stops the head alone: the other nodes notice and leave, but not their log monitors.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from orchestrator.cluster.beside_ray import WATCH_SECONDS, end_former, note_own, runs

NODE = "raylet"
"""The process that runs on every node of Ray."""


def clean_up_after(pid_file: Path, node: str = NODE) -> None:
    """Wait until no node of Ray runs here, then stop the rest of it."""
    end_former(pid_file)
    note_own(pid_file)
    while runs(node):
        time.sleep(WATCH_SECONDS)
    subprocess.run(["ray", "stop"], check=False)
    pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    place = Path(sys.argv[1]).expanduser()
    if "--former" in sys.argv[2:]:
        end_former(place)
    else:
        clean_up_after(place)
