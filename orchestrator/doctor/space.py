"""What a space needs: that it can be read, its table and some of its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.doctor.finding import Finding, fail, ok, warn
from orchestrator.spaces import load_space
from trainables.errors import UserError

SAMPLE = 50


@dataclass(frozen=True)
class Needs:
    """Bytes: of the images in memory, of all nodes, of one; None: not known."""

    image_bytes: int | None = None
    plan_bytes: int | None = None
    node_bytes: int | None = None


def look_at_space(name: str | None) -> tuple[list[Finding], Needs]:
    """Findings about a space, and what it needs of the machine."""
    if name is None:
        return [], Needs()
    try:
        spec = load_space(name)
        from trainables.data.load import load_rows, rows_warnings

        table, split_N, _ = load_rows(spec.data)
    except UserError as error:
        return [fail("space", str(error), "correct it; `fatefront plan` says the same")], Needs()
    size = spec.data.image_size
    num = len(table.rows)
    image_bytes = int(num * size * round(size * spec.data.aspect) * 3)
    findings = [ok("space", f"{spec.name}: {num} images, {len(table.classes)} classes, "
                            f"{len(table.groups)} groups")]  # fmt: skip
    findings += [
        warn("groups", line, "`fatefront data inspect` counts classes by group and split")
        for line in rows_warnings(table, split_N)
    ]
    findings += _images(table.rows)
    return findings, _needs(spec, image_bytes)


def _needs(spec: Any, image_bytes: int) -> Needs:
    from orchestrator.plan import plan_space

    try:
        plan = plan_space(spec)
    except UserError:  # real-valued words: no number of trials
        return Needs(image_bytes)
    num = plan["num_trials"]
    return Needs(image_bytes, plan["bytes"], plan["bytes"] // num if num else None)


def _images(rows: Any) -> Iterator[Finding]:
    """Some files, from the whole length of the table."""
    if "path" not in rows:
        return
    from PIL import Image

    paths = list(rows["path"])[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
    missing = [path for path in paths if not Path(path).is_file()]
    broken = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
        except OSError:
            broken += [path] if path not in missing else []
    for what, found in (("are not there", missing), ("cannot be decoded", broken)):
        if found:
            yield fail("images", f"{len(found)} of {len(paths)} looked at {what}: {found[0]}",
                       "`fatefront data inspect` names all of them")  # fmt: skip
    if not missing and not broken:
        yield ok("images", f"{len(paths)} of them looked at: all can be read")
