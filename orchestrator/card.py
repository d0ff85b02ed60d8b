"""The licence of the data and the card of a sweep: what models may be used for, and what not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.datasets.sources import SOURCES
from search_spaces.sweep_spec import SweepSpec

ATTRIBUTE_NAMES = {"sex": "sex (as recorded)", "gender": "gender (as recorded)"}
"""What the data sets hold is what somebody wrote down."""

USE = (
    "For research only. This is not a medical device: no figure here is evidence that a model is "
    "fit for patients, and none of these models was validated for any clinical use.",
)
NON_COMMERCIAL = (
    "Trained on data that are licensed for non-commercial use only: do not use the models, or "
    "what is made with them, commercially."
)
FAIRNESS = (
    "A smaller gap on this split does not show that a model treats groups alike elsewhere. "
    "Groups are those of one attribute of this data set; other groups and their intersections "
    "were not looked at."
)


@dataclass(frozen=True)
class DataTerms:
    """Under which terms a data set may be used.

    Attributes:
        name: of the data set.
        licence: in words.
        cite: what to cite; empty: nothing known.
        page: where the terms are; empty: nowhere known.
        is_non_commercial: None where the licence is not known.
    """

    name: str
    licence: str
    cite: str = ""
    page: str = ""
    is_non_commercial: bool | None = None


def data_terms(name: str) -> DataTerms:
    """The terms of a data set by its name in the registry."""
    if name == "synthetic":
        return DataTerms(
            name, "no photograph of anybody: every image was drawn by fatefront's generator (MIT)",
            is_non_commercial=False,
        )  # fmt: skip
    source = SOURCES.get(name)
    if source is None:
        return DataTerms(
            name, "not known to fatefront: ask whoever the images are from before sharing models "
            "or pictures",
        )  # fmt: skip
    return DataTerms(
        name, source.licence, source.cite, source.page, is_non_commercial="NC" in source.licence
    )


def attribute_name(name: str) -> str:
    """An attribute for people."""
    return ATTRIBUTE_NAMES.get(name, name)


def use_lines(terms: DataTerms) -> list[str]:
    """What the models may be used for, one sentence each."""
    lines = [*USE]
    if terms.is_non_commercial:
        lines.append(NON_COMMERCIAL)
    elif terms.is_non_commercial is None:
        lines.append(
            "The licence of the training data is not known to fatefront; if it is non-commercial, "
            "so are the models."
        )
    return [*lines, FAIRNESS]


def unknown_line(manifest: Mapping[str, Any]) -> str:
    """How many images are in no figure, because their group is unknown."""
    data = manifest["data"]
    attribute = attribute_name(data["attribute"])
    return (
        f"{data['num_unknown_group']:,} of {data['num_images']:,} images have no known "
        f"{attribute}: they are trained on, and are in no score and no metric."
    )


def licence_text(manifest: Mapping[str, Any], spec: SweepSpec) -> str:
    """``data_licence.md``."""
    terms = data_terms(manifest["data"]["name"])
    lines = [f"# Data licence: {terms.name}", "", f"Licence: {terms.licence}."]
    lines += [f"Terms: {terms.page}"] if terms.page else []
    lines += [f"Cite: {terms.cite}."] if terms.cite else []
    lines += [f"Changes: {change}." for change in changes_of(spec)]
    if terms.is_non_commercial:
        lines += ["", NON_COMMERCIAL]
    return "\n".join(lines) + "\n"


def changes_of(spec: SweepSpec) -> list[str]:
    """What was done to the images, which licences ask one to say."""
    size = getattr(spec.data, "image_size", None)
    is_drawn = spec.data.name == "synthetic"  # at this size
    found = [f"images were resized and cropped to {size} pixels"] if size and not is_drawn else []
    if getattr(spec.data, "darken", None) is not None:
        found.append("some images were darkened, by a rule, to make a gap whose cause is known")
    return found


def card_text(manifest: Mapping[str, Any], spec: SweepSpec) -> str:
    """``card.md``: what the exported models are, and what they are not for."""
    data = manifest["data"]
    terms = data_terms(data["name"])
    lines = [f"# Models of {manifest['sweep']}", "", "## Use", ""]
    lines += [f"* {line}" for line in use_lines(terms)]
    lines += ["", "## Data", ""]
    lines += [
        f"* {data['name']}, {data['num_images']:,} images, {data['image_size']} pixels; "
        f"classes: {', '.join(data['classes'])}.",
        f"* Groups by {attribute_name(data['attribute'])}: {', '.join(data['groups'])}.",
        f"* {unknown_line(manifest)}",
        f"* Licence: {terms.licence}.",
        *([f"* Cite: {terms.cite}."] if terms.cite else []),
        *(f"* Warning: {warning}." for warning in data["warnings"]),
    ]
    lines += ["", "## How they were made and chosen", ""]
    lines += [
        f"* Backbone {manifest['backbone']['name']}, fatefront {manifest['fatefront']}; every "
        "model's `model.json` holds its whole recipe.",
        "* Chosen by the validation split for "
        f"{' and '.join(spec.search.resolved_objectives)}; `front.csv` and `front.json` hold "
        "every figure with its interval, floor and verdict against the controls.",
        "* Members of a front are chosen as the best of many: expect less on new data.",
    ]
    return "\n".join(lines) + "\n"
