"""Ray for one sweep: started where none is there, and kept quiet."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from orchestrator.running.resources import Resources
from orchestrator.running.terminated import sigterm_interrupts


@contextlib.contextmanager
def ray_session(resources: Resources, threads: int, image_bytes: int) -> Iterator[None]:
    """Ray as long as the block runs: what is connected already, or one on this machine."""
    import ray

    if ray.is_initialized():  # that of --address, or a test's: used and left as it is
        with sigterm_interrupts():
            yield
        return
    # "local": without it Ray joins whatever cluster it finds a trace of on this machine
    ray.init(
        address="local",
        num_cpus=max(len(os.sched_getaffinity(0)), (resources.workers or 1) * threads),
        object_store_memory=int(image_bytes * 1.3) + (200 << 20),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    with sigterm_interrupts():
        try:
            yield
        finally:
            ray.shutdown()
