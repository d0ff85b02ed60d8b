"""Joining a running Ray cluster as its driver."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import UserError, first_line

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""What `ray up` leaves on the head for the autoscaler: the cluster file with its defaults."""
ANSWER_SECONDS = 5.0
JOIN_SECONDS = 120.0
"""How long machines of one's own are waited for: `ray up` returns when the head runs."""


def attach(address: str, say: Callable[[str], None] = lambda line: None) -> None:
    """Connect this process; machines of a fixed list are waited for.

    Raises:
        UserError: no cluster at this address, or it does not take our token.
    """
    import ray

    if not ray.is_initialized():
        _check_answers(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # whatever Ray makes of it, the user gave the address
            line = first_line(str(error), type(error).__name__)
            raise UserError(f"--address {address}: {line}") from None
    _wait_for_machines(say)


def _check_answers(address: str) -> None:
    """Ray itself would try for some minutes, and print its own lines all the while.

    Raises:
        UserError: it is no address of Ray, there is no cluster to find, or nothing listens there.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    if "://" in address:
        raise UserError(
            f"--address {address}: give auto on the head, HOST:6379 on another of its nodes, or "
            "http://HOST:8265 from elsewhere (`ray dashboard FILE` brings it)"
        )
    try:
        found = canonicalize_bootstrap_address_or_die(address)
    except Exception as error:  # ConnectionError, ValueError, or what its own look-ups raise
        line = first_line(str(error), type(error).__name__)
        raise UserError(f"--address {address}: {line}") from None
    host, _, port = found.rpartition(":")
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, ConnectionRefusedError) and time.monotonic() < end:
                time.sleep(0.5)  # a head that is just starting
                continue
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"--address {address}: no cluster answers at {found} ({reason.lower()})"
            ) from None


def launched_from() -> dict[str, Any] | None:
    """The cluster file, where this process is on the head of a cluster that `ray up` started."""
    path = BOOTSTRAP.expanduser()
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return None
    return document if isinstance(document, dict) else None


def _wait_for_machines(say: Callable[[str], None]) -> None:
    provider = (launched_from() or {}).get("provider", {})
    if provider.get("type") != "local":
        return
    wanted = 1 + len(provider.get("worker_ips", []))
    end, said = time.monotonic() + JOIN_SECONDS, False
    while (missing := wanted - num_alive()) > 0:
        if time.monotonic() > end:
            say(f"note: {missing} of {wanted} machines have not joined; the others go ahead")
            return
        if not said:
            say(f"waiting for {missing} of {wanted} machines to join")
            said = True
        time.sleep(1.0)


def num_alive() -> int:
    """Nodes that are up."""
    import ray

    return sum(node["Alive"] for node in ray.nodes())
