"""``fatefront doctor``: every check in its order, with what to do."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from orchestrator.console import OK, OURS
from orchestrator.doctor.finding import Finding
from orchestrator.doctor.gpus import check_gpus
from orchestrator.doctor.machine import (
    check_memory,
    check_open_files,
    check_ports,
    check_shared_memory,
)
from orchestrator.doctor.packages import check_packages, check_python
from orchestrator.doctor.places import check_disk, check_folders, check_store
from orchestrator.doctor.ray_start import check_ray
from orchestrator.doctor.space import look_at_space
from orchestrator.doctor.tracking import check_tracking

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def examine(
    space: str | None, out: Path, store: str | None, tracking_uri: str | None
) -> dict[str, Any]:
    """All checks; returns the verb's document. Nothing stays behind.

    Args:
        space: what is to be run, if it is known: its data, and its needs of memory and disk.
        out: folder of sweeps.
        store: where nodes live, if not in the folder.
        tracking_uri: MLflow's, if not in the folder.
    """
    from trainables.data.load import default_cache_dir

    findings = [check_python(), *check_packages()]
    if any(f.status == "fail" for f in findings):  # what follows imports them
        return _document(findings)
    about_space, needs = look_at_space(space)
    findings += about_space
    findings += check_gpus()
    findings += check_ray()
    findings += check_ports()
    findings += [check_shared_memory(needs.image_bytes), check_memory(needs.image_bytes)]
    findings += [check_open_files(), *check_folders(out, default_cache_dir())]
    findings.append(check_disk(out, needs.plan_bytes, needs.node_bytes))
    if store is not None:
        findings.append(check_store(store))
    findings.append(check_tracking(tracking_uri))
    return _document(findings)


def _document(findings: list[Finding]) -> dict[str, Any]:
    num = Counter(finding.status for finding in findings)
    return {
        "findings": [asdict(finding) for finding in findings],
        "num_ok": num["ok"],
        "num_warn": num["warn"],
        "num_fail": num["fail"],
        "cores": len(os.sched_getaffinity(0)),
        "exit_code": OURS if num["fail"] else OK,
    }


def render_examined(document: dict[str, Any]) -> Text:
    """One line a finding, the fix below it; colour where there is any."""
    text = Text(no_wrap=True, overflow="ignore")
    for finding in document["findings"]:
        text.append(f"{finding['status']:<5}", STYLES[finding["status"]])
        text.append(f"{finding['check']}: {finding['message']}\n")
        if finding["fix"]:
            text.append(f"     fix: {finding['fix']}\n")
    text.append(
        ", ".join(
            f"{document[f'num_{name}']} {words}"
            for name, words in (("ok", "ok"), ("warn", "to look at"), ("fail", "failed"))
        )
    )
    return text
