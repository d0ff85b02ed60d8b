"""The search space that holds several: union of seeds, controls and iterations; templates that
differ as ``one_of``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import Choice, OneOf, Template, is_finite, option_labels, to_yaml
from trainables.specs import validate

FIELDS = ("baseline", "prune")
Renaming = dict[str, tuple[Template, Template]]
"""Field of the spec -> its template in one sweep and in the union."""


def union(specs: Sequence[SweepSpec]) -> tuple[SweepSpec, list[Renaming]]:
    """The space that holds every space's trials, and how each one's parameters are called in it.

    Where both baselines and pruning arms differ the union is their product, which is more than was
    asked for before. All but the templates, seeds, controls and iterations is the first one's.
    """
    first = specs[0]
    templates = {field: _union([getattr(spec, field) for spec in specs]) for field in FIELDS}
    search = first.search
    if search.sampler == "grid" and not is_finite(list(templates.values())):
        search = next(spec.search for spec in specs if spec.search.sampler != "grid")
    document = yaml.safe_load(first.to_yaml()) | {
        "search": search.model_dump(mode="json"),
        "seeds": list(dict.fromkeys(seed for spec in specs for seed in spec.seeds)),
        "controls": list(dict.fromkeys(control for spec in specs for control in spec.controls)),
        "iterations": max(spec.iterations for spec in specs),
    }
    document |= {field: to_yaml(template) for field, template in templates.items()}
    joined = validate(SweepSpec, document, place="the merged sweep")
    renamings = [
        {field: (getattr(spec, field), getattr(joined, field)) for field in FIELDS}
        for spec in specs
    ]
    return joined, renamings


def _union(templates: Sequence[Template]) -> Template:
    options: dict[str, Template] = {}
    for template in templates:
        for option in _options(template):
            options.setdefault(_identity(option), option)
    if len(options) == len({_identity(option) for option in _options(templates[0])}):
        return templates[0]
    return OneOf(tuple(options.values()))


def _options(template: Template) -> list[Template]:
    if isinstance(template, OneOf):
        return list(template.options)
    return list(template.values) if isinstance(template, Choice) else [template]


def _identity(template: Template) -> str:
    return json.dumps(to_yaml(template), sort_keys=True)


def renamed(event: Mapping[str, Any], renaming: Renaming) -> dict[str, Any]:
    """A proposal event with its parameters called as in the union."""
    parameters = dict(event["parameters"])
    for field, (old, new) in renaming.items():
        parameters = _rename(parameters, field, old, new)
    return dict(event) | {"parameters": parameters}


def _rename(
    parameters: dict[str, Any], field: str, old: Template, new: Template
) -> dict[str, Any]:
    """Names grow along the path taken (``prune.snnl.ratio``); only their beginning differs between
    two spaces.
    """
    if _identity(old) == _identity(new) or not isinstance(new, OneOf):
        return parameters
    option: Template = old
    before = field
    if isinstance(old, OneOf):
        labels = option_labels(old)
        if parameters.get(field) not in labels:
            return parameters  # of an earlier space
        option = old.options[labels.index(parameters[field])]
        before = f"{field}.{parameters[field]}"
    elif isinstance(old, Choice):
        option = parameters.get(field)
    places = [_identity(candidate) for candidate in new.options]
    if _identity(option) not in places:
        return parameters
    label = option_labels(new)[places.index(_identity(option))]
    after = f"{field}.{label}"
    moved = {
        after + name[len(before) :] if name.startswith(f"{before}.") else name: value
        for name, value in parameters.items()
    }
    return moved | {field: label}
