"""The commented YAML of a space for one's own table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from orchestrator.starting.guess import Guess
from orchestrator.starting.schema import editor_line
from search_spaces.json_schema import shipped_schema

PIXELS = 128
SAMPLE = 20
SMALL = 2000
"""Images below which more epochs are needed to see as many batches."""


def space_text(guess: Guess, table: Path, name: str) -> str:
    """The file as it is written; every guess is marked."""
    num = sum(guess.classes.values())
    epochs, finetune = (40, 10) if num < SMALL else (20, 5)
    lines = [
        editor_line(shipped_schema()),
        f"# A space for {table.name}, made by looking at it. What is marked (guessed) may be",
        "# wrong: read it, then `fatefront data inspect` and `fatefront plan` this file.",
        f"name: {_value(name)}",
        "",
        "data:",
        "  name: table",
        f"  path: {_value(str(table.absolute()))}",
        *_columns(guess, table),
        f"  image_size: {_pixels(guess)}  # of the shorter side; larger: slower, finer",
        "",
        "backbone: resnet18  # also vgg11, vgg11_bn",
        "# backbone: {name: resnet18, weights: imagenet}  # better on few images; fetched once",
        "",
        "training:  # of the model before anything is pruned",
        f"  epochs: {epochs}",
        "  batch_size: 32",
        "  learning_rate: 0.01",
        "  schedule: cosine",
        "finetune:  # after each pruning iteration",
        f"  epochs: {finetune}",
        "  batch_size: 32",
        "  learning_rate: 0.002",
        "  schedule: cosine",
        "",
        "baseline: vanilla",
        "# baseline: {one_of: [vanilla, hsic, group_dro]}  # each of them is pruned by every arm",
        "prune:",
        "  criterion: snnl  # also fairprune, obd, magnitude, taylor, skewness, hsic",
        "  ratio: {choice: [0.02, 0.05, 0.10]}  # of the layer's channels, in each iteration",
        "iterations: 3",
        "seeds: [0, 1, 2]  # five or more before anything is published",
        "controls: [none, random]  # fine-tuned alike: unpruned, and as many channels at random",
        "",
        "search:",
        "  sampler: grid  # every trial; tpe, nsga2, gp, random need `run --trials N`",
    ]
    return "\n".join(lines) + "\n"


def _columns(guess: Guess, table: Path) -> list[str]:
    image = guess.image
    lines = []
    if image.root.absolute() != table.parent.absolute():
        lines.append(
            f"  root: {_value(str(image.root.absolute()))}  # (guessed) folder of the images"
        )
    lines.append(f"  image: {_value(image.column)}{_mark(guess.given.image)}")
    if image.suffix:
        lines.append(f"  suffix: {_value(image.suffix)}  # (guessed) added to each name")
    lines.append(
        f"  label: {_value(guess.label)}{_mark(guess.given.label)} {len(guess.classes)} classes"
    )
    own = guess.attribute
    about = f" {own.kind};" if own.kind else ""
    mark = _mark(guess.given.attribute)
    lines.append(f"  attribute: {_value(own.column)}{mark}{about} its values are the groups")
    if own.threshold is not None:
        lines.append(
            f"  threshold: {own.threshold:g}  # (guessed) near the median: below, and at least"
        )
    elif own.kind == "skin tone" and set(own.groups) <= set("123456"):
        lines.append(
            "  # threshold: 4  # two groups, types I to III and IV to VI, in place of six"
        )
    if guess.further:
        names = [other.column for other in guess.further]
        lines.append(f"  # further_attributes: {_value(names)}  # also there; or attribute: a+b")
        ages = {o.column: o.threshold for o in guess.further if o.threshold is not None}
        if ages:
            lines.append(f"  # thresholds: {_value(ages)}  # needed where one of these is used")
    if guess.patient:
        lines.append(
            f"  patient: {_value(guess.patient)}{_mark(guess.given.patient)} no split parts one"
        )
    else:
        lines.append("  # patient: COLUMN  # not found: images count as independent")
    if guess.split:
        lines += ["  split: column", f"  split_column: {_value(guess.split)}  # (guessed)"]
    if guess.malignant:
        lines.append(f"  malignant: {_value(guess.malignant)}  # (guessed) by their names")
    else:
        lines.append("  # malignant: [CLASS]  # for sensitivity and underdiagnosis")
    return lines


def _mark(given: str | None) -> str:
    """Begins the comment on a column."""
    return "  # (guessed)" if given is None else "  #"


def _value(value: Any) -> str:
    """One YAML value in one line, quoted where it must be."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _pixels(guess: Guess) -> int:
    """The shorter side of the smallest of some images, at most what is usual."""
    sides = [PIXELS]
    folder = guess.image.root
    for value in guess.sample[:SAMPLE]:
        try:
            with Image.open(folder / f"{value}{guess.image.suffix}") as image:
                sides.append(min(image.size))
        except OSError:  # a broken file is named when the data is read
            continue
    return max(8, min(sides))
