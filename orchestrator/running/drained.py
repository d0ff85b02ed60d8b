"""Whether Ray has been told that this node goes: by `ray drain-node`, by its autoscaler, or by
``orchestrator.cluster.spot_notice``.
"""

from __future__ import annotations

import time

ASK_SECONDS = 2.0
"""Between two questions to Ray's head: an epoch of a small net is shorter."""


class DrainedNode:
    """Asks Ray's head about the node of this process."""

    def __init__(self, pause: float = ASK_SECONDS) -> None:
        self.pause = pause
        self._next = 0.0
        self._leaving = False

    def __call__(self) -> bool:
        """Whether this node is drained; once it is, it stays so."""
        now = time.monotonic()
        if not self._leaving and now >= self._next:
            self._leaving = _is_drained()
            self._next = time.monotonic() + self.pause
        return self._leaving


def _is_drained() -> bool:
    import ray
    from ray._private.worker import global_worker

    try:
        own = ray.get_runtime_context().get_node_id()
        head = global_worker.gcs_client  # type: ignore[attr-defined]
        return own in head.get_draining_nodes(timeout=1)  # their names in hex
    except Exception:  # an interface that is not public: no training fails with it
        return False
