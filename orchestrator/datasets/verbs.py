"""``fatefront data prepare | inspect | synthesize``, and loading with a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from orchestrator.datasets.listed import shared_lines
from orchestrator.progress_bar import make_bar
from orchestrator.spaces import load_space
from trainables.data.base import DataConfig, Dataset
from trainables.data.parse import parse_data
from trainables.errors import UserError, shortened
from trainables.yaml_text import parse_yaml


def load_with_bar(config: DataConfig, quiet: bool = False) -> Dataset:
    """The data set; a bar on stderr while images are decoded or rendered."""
    from trainables.data.load import load_dataset

    if quiet:
        return load_dataset(config)
    with make_bar() as bar:
        task = bar.add_task(f"images of {config.name}", total=None)
        return load_dataset(
            config, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def data_config(text: str, overrides: Sequence[str] = ()) -> DataConfig:
    """The data of a search space, or a data set written out in braces: ``{name: ..., ...}``.

    Raises:
        UserError: no such space or data set, or overrides of a data set in braces.
    """
    if not text.lstrip().startswith("{"):
        config: DataConfig = load_space(text, overrides).data
        return config
    if overrides:
        raise UserError(f"--set overrides a search space; write the field into {text} instead")
    return parse_data(parse_yaml(text, "data set in braces, for example {name: synthetic}"))


def prepare_data(space: str, overrides: Sequence[str], quiet: bool = False) -> dict[str, Any]:
    """Build the array cache of a space's data."""
    dataset = load_with_bar(data_config(space, overrides), quiet)
    return {
        "name": dataset.name,
        "attribute": dataset.attribute,
        "num_images": len(dataset.label_N),
        "shape": list(dataset.images_NHWC.shape),
        "bytes": int(dataset.images_NHWC.nbytes),
        "fingerprint": dataset.fingerprint,
        "group_digest": dataset.group_digest,
        "warnings": list(dataset.warnings),
    }


def render_prepared(document: dict[str, Any]) -> Text:
    """For people."""
    lines = [
        f"{document['name']}: {document['num_images']} images, array {document['shape']}, "
        f"{document['bytes'] / 1e6:.1f} MB, fingerprint {document['fingerprint'][:16]}",
        *(f"warning: {warning}" for warning in document["warnings"]),
    ]
    return Text("\n".join(lines))


def inspect_data(
    space: str, overrides: Sequence[str], quiet: bool = False, against: str | None = None
) -> dict[str, Any]:
    """Counts and warnings of a space's data, and what it shares with another data set."""
    from trainables.data.against import compare_ids, rows_of
    from trainables.data.inspect import inspect_dataset

    config = data_config(space, overrides)
    other = rows_of(data_config(against)) if against else None  # its mistakes come first
    dataset = load_with_bar(config, quiet)
    report = inspect_dataset(dataset)
    report["against"] = compare_ids(dataset, other) if other else None
    return report


def render_inspected(document: dict[str, Any]) -> Any:
    """For people."""
    from trainables.data.inspect import render

    found = document["against"]
    if found is None:
        return render(document)
    lines = [
        f"against {found['name']}: {found['num_shared_images']} images and "
        f"{found['num_shared_patients']} patients or lesions are in both",
        *shared_lines(found),
        *(f"warning: {line}" for line in found["warnings"]),
    ]
    return Group(render(document), *map(Text, lines))


def synthesize_data(to: Path, overrides: Sequence[str], quiet: bool = False) -> dict[str, Any]:
    """Write the synthetic set as JPEG and CSV."""
    from trainables.data.synthetic import Synthetic, write
    from trainables.specs import validate

    dials: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            raise UserError(f"--set needs key=value but got {override!r}")
        dials[name] = parse_yaml(text, f"--set {name}: {shortened(text)}")
    config = validate(Synthetic.Config, dials, place="data set synthetic")
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{to}: {error.strerror}") from None
    with make_bar() as bar:
        task = bar.add_task("rendering", total=None, visible=not quiet)
        table = write(
            config, to, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    return {"table": str(table), "num_images": config.num_images, "attribute": config.attribute}


def render_synthesized(document: dict[str, Any]) -> Text:
    """For people."""
    return Text(f"{document['num_images']} images; table: {document['table']}")
