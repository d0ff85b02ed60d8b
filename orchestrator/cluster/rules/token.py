"""Token authentication is on, on every node, and the token comes from a file."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding

RULE = "token"
TOKEN_FILE = ".ray/auth_token"
"""Where Ray looks for the token, below the home folder."""


def check(cluster: Cluster) -> Iterator[Finding]:
    """Without it whoever reaches a port of Ray runs code there."""
    if cluster.kind == "rayjob":
        path = ("spec", "rayClusterSpec", "authOptions", "mode")
        mode = cluster.file.get(*path)
        if mode != "token":
            yield Finding(
                RULE, path[:3], f"authOptions.mode must be token but is {mode or 'missing'}"
            )
        return
    for group in cluster.groups:
        mode = group.environment.get("RAY_AUTH_MODE")
        if mode is None:
            yield Finding(
                RULE,
                group.path,
                f"no command of {group.name} exports RAY_AUTH_MODE=token: Ray would run "
                "without authentication",
            )
        elif mode.text != "token":
            yield Finding(RULE, mode.path, f"RAY_AUTH_MODE is {mode.text!r}: must be token")
    mounts = cluster.file.get("file_mounts")
    targets = list(mounts) if isinstance(mounts, dict) else []
    elsewhere = {
        group.environment["RAY_AUTH_TOKEN_PATH"].text
        for group in cluster.groups
        if "RAY_AUTH_TOKEN_PATH" in group.environment
    }
    if not any(str(t).endswith(TOKEN_FILE) or str(t) in elsewhere for t in targets):
        yield Finding(
            RULE,
            ("file_mounts",),
            "the token is not brought to the nodes: add "
            '"~/.ray/auth_token": ~/.ray/auth_token (made by `ray get-auth-token --generate`)',
        )
