"""Tells Ray that this spot machine will be taken back.

``python -m orchestrator.cluster.spot_notice aws|gcp``, for a worker's start commands; it ends with
Ray. After a notice Ray begins nothing new here, and a training leaves a checkpoint at the end of
every epoch (trainables/leaving.py). Addresses and answers are those of the clouds' documentation:
docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html (two minutes
before) and cloud.google.com/compute/docs/instances/spot (thirty seconds before).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

import psutil

from trainables.errors import first_line

NODE = "raylet"
"""The process that runs on every node of Ray."""
LOOK_SECONDS = 5.0
START_SECONDS = 120.0
ANSWER_SECONDS = 2.0
TOKEN_SECONDS = 60
GOOGLE_SECONDS = 30.0
"""Google does not say when."""


def aws_notice() -> float | None:
    """Seconds until AWS takes this machine back; None: no word of it.

    ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` is another address of the metadata, as for AWS's own
    clients.
    """
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
    ask = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
    token = _answer(f"{base.rstrip('/')}/latest/api/token", ask, "PUT")
    if token is None:
        return None
    path = f"{base.rstrip('/')}/latest/meta-data/spot/instance-action"
    said = _answer(path, {"X-aws-ec2-metadata-token": token})
    if said is None:  # 404: it stays
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        when = datetime.fromisoformat(json.loads(said)["time"].replace("Z", "+00:00"))
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    return 0.0


def google_notice() -> float | None:
    """The same of Google Cloud; ``GCE_METADATA_HOST`` is another host, as for Google's clients."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    path = f"http://{host}/computeMetadata/v1/instance/preempted"
    said = _answer(path, {"Metadata-Flavor": "Google"})
    return GOOGLE_SECONDS if said is not None and said.strip().upper() == "TRUE" else None


NOTICES: dict[str, Callable[[], float | None]] = {"aws": aws_notice, "gcp": google_notice}


def _answer(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    request = urllib.request.Request(url, headers=headers, method=method)
    # never through a proxy: the metadata are this machine's
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError, ValueError):
        return None


def nodes_here() -> list[psutil.Process]:
    """Ray's node processes on this machine, the newest first."""
    found = [
        process
        for process in psutil.process_iter(["name", "status", "create_time"])
        if process.info["name"] == NODE and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
    return sorted(found, key=lambda process: -process.info["create_time"])


def drain(node: psutil.Process, seconds: float) -> None:
    """Ask Ray's head to begin nothing new on a node that goes in so many seconds.

    Raises:
        RuntimeError: the head refuses.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    words = dict(word.partition("=")[::2] for word in node.cmdline())
    client = GcsClient(address=words["--gcs-address"])
    reasons = autoscaler_pb2.DrainNodeReason  # type: ignore[attr-defined]
    reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
    end = int(1000 * (time.time() + max(1.0, seconds)))
    accepted, why = client.drain_node(words["--node_id"], reason, "spot notice", end)
    if not accepted:
        raise RuntimeError(f"Ray does not drain this node: {why}")


def watch(cloud: str, pause: float = LOOK_SECONDS, node: psutil.Process | None = None) -> bool:
    """Look for a notice until there is one or Ray has ended; whether there was one.

    Args:
        cloud: one of ``NOTICES``.
        pause: seconds between two looks.
        node: Ray's node process; if not given it is waited for.
    """
    begun = time.monotonic()
    while node is None:
        if time.monotonic() - begun > START_SECONDS:
            return False
        node = next(iter(nodes_here()), None)
        time.sleep(0 if node else pause)
    while node.is_running() and node.status() != psutil.STATUS_ZOMBIE:
        seconds = NOTICES[cloud]()
        if seconds is not None:
            print(f"spot notice: {seconds:.0f} s", flush=True)
            try:
                drain(node, seconds)
                return True
            except Exception as error:  # a head that does not answer just now: asked again
                print(f"not drained: {first_line(str(error))}", flush=True)
        time.sleep(pause)
    return False


def main(arguments: list[str] | None = None) -> int:
    """Watch on the command line's behalf."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.cluster.spot_notice")
    parser.add_argument("cloud", choices=sorted(NOTICES))
    parser.add_argument("--every", type=float, default=LOOK_SECONDS, metavar="SECONDS")
    given = parser.parse_args(arguments)
    with contextlib.suppress(psutil.NoSuchProcess):
        watch(given.cloud, given.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
