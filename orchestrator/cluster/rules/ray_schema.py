"""Ray's own schema of a launcher file, and what Ray checks beyond it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, nearest

RULE = "schema"


def check(cluster: Cluster) -> Iterator[Finding]:
    """Every violation of Ray's JSON Schema; without one, the first that Ray's own code finds."""
    import ray.autoscaler
    from jsonschema import Draft7Validator

    folder = Path(ray.autoscaler.__file__).parent
    schema = json.loads((folder / "ray-schema.json").read_text())
    given = cluster.file.document
    prepared, problem = _prepared(given)
    found = False
    errors = Draft7Validator(schema).iter_errors(prepared or given)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        path = tuple(error.absolute_path)
        if prepared is None and path and path[0] == "available_node_types" and _default(error):
            continue
        found = True
        yield from _findings(error, path)
    if not found and problem is not None:
        yield Finding(RULE, _guess(problem), problem)


def _prepared(given: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The file with Ray's defaults and what Ray says against it; nothing is printed or changed."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = None
    said = io.StringIO()
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            prepared = prepare_config(copy.deepcopy(given))
            validate_config(prepared)
    except (Exception, SystemExit) as error:
        text = str(error) or said.getvalue()
        if isinstance(error, KeyError):
            text = f"there is no {error}"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return prepared, lines[0] if lines else type(error).__name__
    finally:
        logging.disable(logging.NOTSET)
    return prepared, None


def _default(error: Any) -> bool:
    """Whether it is about keys that Ray would have filled in."""
    return bool(error.validator == "required" and set(error.validator_value) & {"resources"})


def _findings(error: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    if error.validator != "additionalProperties":
        yield Finding(RULE, path, error.message[:200])
        return
    known = error.schema.get("properties", {})
    for name in error.instance:
        if name not in known:
            yield Finding(RULE, (*path, name), f"Ray knows no key {name}{nearest(name, known)}")


def _guess(message: str) -> tuple[str | int, ...]:
    """Ray's own errors have no place; most of them name a key."""
    for key in ("head_node_type", "max_workers", "min_workers", "docker", "provider"):
        if key in message:
            return ("max_workers",) if key == "min_workers" else (key,)
    return ()
