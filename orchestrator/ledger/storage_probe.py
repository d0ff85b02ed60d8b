"""Whether a store can be used, asked before the first trial: from the driver and from every node
of the Ray cluster.

A node without credentials, or whose "shared" folder is its own, would otherwise be found out when
its first trial is over, for nothing.
"""

from __future__ import annotations

import contextlib
import platform
import uuid
from typing import Any

from trainables.errors import UserError
from trainables.storage import Storage, reason

NODE_SECONDS = 90.0
"""For all nodes together; a process has to start on each."""


def probe(storage: Storage) -> str | None:
    """Write, read and delete a file of one's own; returns what is wrong in one line, or None."""
    path = f"{storage.root}/probes/{uuid.uuid4().hex}"
    doing = "write"
    try:
        if not storage.put_if_absent(path, b"first"):
            return "cannot create a file with a name that nobody has"
        try:
            doing = "write twice"
            if storage.put_if_absent(path, b"second"):
                return (
                    "overwrites a file where it should refuse (no conditional put, such as S3's "
                    "If-None-Match): two drivers could not be kept apart"
                )
            doing = "read"
            if storage.read(path) != b"first":
                return "reads something else than was written"
            doing = "delete"
        finally:
            storage.remove(path)
    except OSError as error:
        return f"cannot {doing}: {reason(error)}"
    return None


def probe_nodes(storage: Storage) -> None:
    """Do so by a task on each node of the Ray cluster, which must also see what the driver wrote,
    and the driver what each node wrote.

    A folder on a cluster of one node was looked at by the driver already.

    Raises:
        UserError: node and reason, of the first one that cannot use the store.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if storage.is_local and len(nodes) == 1:
        return
    prefix = f"{storage.root}/probes/{uuid.uuid4().hex}"
    storage.put(f"{prefix}-driver", platform.node().encode())
    task = ray.remote(num_cpus=0, max_retries=0)(probe_as_node)
    asked = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(storage.uri, prefix, node["NodeID"]): node
        for node in nodes
    }
    try:
        done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS)
        for answer, node in asked.items():
            problem = f"did not answer in {NODE_SECONDS:g} s"
            if answer in done:
                problem = _answer(ray, answer) or _seen(storage, f"{prefix}-{node['NodeID']}")
            if problem:
                raise UserError(
                    f"--store {storage.uri}: node {node['NodeManagerHostname']} "
                    f"({node['NodeManagerAddress']}) {problem}"
                )
    finally:
        with contextlib.suppress(OSError):
            for name in ("driver", *(node["NodeID"] for node in nodes)):
                storage.remove(f"{prefix}-{name}")


def _answer(ray: Any, answer: Any) -> str:
    try:
        return str(ray.get(answer))
    except ray.exceptions.RayError as error:
        return f"could not look: {str(error).strip().splitlines()[0]}"


def probe_as_node(uri: str, prefix: str, node: str) -> str:
    """What a node does: returns what is wrong in one line, or "" and leaves a file for the driver.

    ``uri`` is opened anew: credentials and mounts are the node's own.
    """
    try:
        storage = Storage(uri, patience=0.0)
        problem = probe(storage)
        if problem is not None:
            return problem
        if not storage.exists(f"{prefix}-driver"):
            return "does not see what the driver wrote there: is it a shared folder?"
        storage.put(f"{prefix}-{node}", platform.node().encode())
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"cannot use it: {reason(error)}"
    return ""


def _seen(storage: Storage, path: str) -> str:
    return "" if storage.exists(path) else "writes what the driver does not see: a shared folder?"
