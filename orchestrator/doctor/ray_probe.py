"""Starts Ray as a sweep does, runs one task, says where it listens, ends it; a JSON line."""

from __future__ import annotations

import json
import time


def main() -> None:
    """Print ``listening`` (addresses with ports of all its processes) and ``seconds``."""
    from orchestrator.running.environment import prepare

    prepare()
    import psutil
    import ray

    from orchestrator.running.ray_session import ray_session
    from orchestrator.running.resources import Resources

    begun = time.monotonic()
    with ray_session(Resources(workers=1), 1, 0):
        answer = ray.get(ray.remote(num_cpus=1)(lambda: 42).remote())
        seconds = time.monotonic() - begun
        assert answer == 42
        listening = {
            f"{connection.laddr.ip}:{connection.laddr.port}"
            for process in psutil.Process().children(recursive=True)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    print(json.dumps({"listening": sorted(listening), "seconds": seconds}))


if __name__ == "__main__":
    main()
