"""No credential stands in a cluster file: it is copied, committed and shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, Path

RULE = "credentials"
SHAPES = {
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in a URI": r"\b[a-z][a-z0-9+.-]*://[^/\s:@]+:(?!\$)[^/\s:@]+@",
    "a GitHub token": r"\b(ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}",
    "a Google OAuth token": r"\bya29\.[A-Za-z0-9_-]{20,}",
    "a secret": (
        r"(?i)\b[a-z0-9_]*(password|passwd|secret_access_key|session_token|api_key|auth_token|"
        r"secret_key)=(?![\"']?(\$|~|/|<|\s|$))[\"']?[^\s\"';|&]{4,}"
    ),
}
KEYS = re.compile(r"(?i)(password|passwd|secret|credentials|api_?key|access_?key|auth_?token)$")


def check(cluster: Cluster) -> Iterator[Finding]:
    """Texts that look like one, and values under keys that name one."""
    yield from _walk(cluster.file.document, (), "")


def _walk(value: Any, path: Path, name: str) -> Iterator[Finding]:
    if isinstance(value, dict):
        environment = value.get("name") if "value" in value else None
        for key, below in value.items():
            label = str(environment) if key == "value" and environment else str(key)
            yield from _walk(below, (*path, str(key)), label)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _walk(below, (*path, index), name)
    elif isinstance(value, str):
        yield from _text(value, path, name)


def _text(value: str, path: Path, name: str) -> Iterator[Finding]:
    for what, shape in SHAPES.items():
        if re.search(shape, value):
            yield Finding(RULE, path, f"this looks like {what}: keep it out of the file")
            return
    # a name of a secret, a path and a variable are no secrets
    literal = value and not re.match(r"[~/$.]|secret:|ref\+", value)
    if literal and KEYS.search(name) and len(path) and not str(path[-1]).startswith(("~", "/")):
        yield Finding(RULE, path, f"{name} holds a value: keep it out of the file")
