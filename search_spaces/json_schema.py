"""The JSON Schema (2020-12) of a space written as YAML, so that editors complete and check it.

Made from the typed configs of all parts. It knows names, kinds and ranges of all keys; what
several keys mean together (a layer that the backbone lacks) only `plan` knows.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from search_spaces.objectives import OBJECTIVES, objectives
from search_spaces.sweep_spec import SweepSpec
from trainables.registry import Registry, backbones, baselines, criteria, datasets
from trainables.trial_spec import Prune

Schema = dict[str, Any]

FILE = "space.schema.json"
REGISTRIES = (datasets, backbones, baselines, criteria)
WORDED = "-words"
"""Ends the names of definitions whose fields may be words of a space."""
RATIO = {"exclusiveMinimum": 0, "exclusiveMaximum": 1}
SPLIT_WORDS = ("patient", "image", "column", "paper", "lesion", "duplicates")


def space_schema(*, installed: bool = True) -> Schema:
    """The schema of all spaces; not ``installed``: without the parts of other packages."""
    return _Builder(installed).build()


def shipped_schema() -> str:
    """Path of the schema that comes with the package, of its own parts alone."""
    return str(files("search_spaces") / FILE)


def as_text(schema: Schema) -> str:
    """As the file is written: a line a field and a line a definition, so that changes show."""

    def lines(mapping: Schema) -> str:
        items = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in mapping.items())
        return "{\n  " + ",\n  ".join(items) + "\n }"

    parts = {
        key: lines(value) if key in ("properties", "$defs") else json.dumps(value)
        for key, value in schema.items()
    }
    return "{\n " + ",\n ".join(f'"{key}": {text}' for key, text in parts.items()) + "\n}\n"


class _Builder:
    """Collects definitions; a name that ends with ``WORDED`` allows words in its fields."""

    def __init__(self, installed: bool) -> None:
        self._installed = installed
        self._defs: dict[str, Schema] = {}

    def build(self) -> Schema:
        sweep = self._model(SweepSpec)
        for registry in REGISTRIES:
            self._defs[_kind(registry)] = self._part(registry)
        properties = sweep["properties"]
        properties["baseline"] = self._baseline(properties["baseline"])
        properties["prune"] = self._prune(properties["prune"])
        properties["reference"] |= {"enum": self._names(baselines)}
        properties["controls"]["items"] = {"enum": self._controls()}
        others = objectives.names() if self._installed else ()
        self._defs["Search"]["properties"]["objectives"]["items"] = {
            "enum": list(dict.fromkeys((*OBJECTIVES, *others)))
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "fatefront/space.schema.json",
            "title": "a search space of fatefront",
            **sweep,
            "$defs": dict(sorted(self._defs.items())),
        }

    def _names(self, registry: Registry) -> list[str]:
        return registry.names() if self._installed else registry.builtin_names()

    def _controls(self) -> list[str]:
        return [name for name in self._names(criteria) if criteria.get(name).is_control]

    def _model(self, model: Any, prefix: str = "") -> Schema:
        """Schema of a config; its definitions are shared where they are the same."""
        schema: Schema = model.model_json_schema(ref_template="#/$defs/{model}")
        for name, inner in schema.pop("$defs", {}).items():
            self._defs.setdefault(name, self._looser(name, _tidy(inner)))
        return _tidy(schema)

    def _looser(self, name: str, schema: Schema) -> Schema:
        """What a field accepts beside its type, before it is parsed."""
        if name == "Split":
            schema["properties"]["by"]["enum"] = list(SPLIT_WORDS)
            return {"anyOf": [{"enum": list(SPLIT_WORDS)}, schema]}
        return schema

    def _part(self, registry: Registry) -> Schema:
        """A bare name, or a mapping with the name and the part's options."""
        options = []
        for name in self._names(registry):
            config = self._model(registry.get(name).Config)
            config["properties"]["name"] = {"const": name}
            config["required"] = sorted({"name", *config.get("required", ())})
            about = f"{_kind(registry)} {name}"
            self._defs[about] = config
            options.append({"$ref": f"#/$defs/{about}"})
        return {"anyOf": [{"enum": self._names(registry)}, *options]}

    def _baseline(self, given: Schema) -> Schema:
        return _described(given) | self._with_words({"$ref": "#/$defs/baseline"})

    def _prune(self, given: Schema) -> Schema:
        """A criterion's name; an arm with ``criterion``; or the criterion's ``name`` with its
        options and the arm's side by side.
        """
        arm = self._model(Prune)
        ratio = arm["properties"]["ratio"]
        ratio |= RATIO
        layer = arm["properties"]["layer"]
        names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        arm["properties"]["layer"] = _described(layer) | {"anyOf": [{"type": "string"}, names]}
        fields = arm["properties"]
        for key in [key for key in fields if key != "criterion"]:
            # once for all arms, with its words
            self._defs[f"arm {key}"] = self._with_words(fields[key])
            fields[key] = {"$ref": f"#/$defs/arm {key}"}
        self._defs["arm"] = arm
        options = [{"enum": self._names(criteria)}, {"$ref": "#/$defs/arm"}]
        for name in self._names(criteria):
            criterion = self._defs[f"criterion {name}"]
            both = criterion["properties"] | {k: fields[k] for k in fields if k != "criterion"}
            self._defs[f"arm of {name}"] = criterion | {"properties": both}
            options.append({"$ref": f"#/$defs/arm of {name}"})
        return _described(given) | self._with_words({"anyOf": options})

    def _with_words(self, schema: Schema) -> Schema:
        """The schema, or a word in its place: one of its values, or a range of numbers."""
        inner = self._worded(schema)
        bare = {k: v for k, v in inner.items() if k not in ("description", "default", "title")}
        words: list[Schema] = [
            bare,
            _word("choice", {"type": "array", "items": schema, "minItems": 1}),
            _word("one_of", {"type": "array", "items": bare, "minItems": 1}),
        ]
        for word, kind in (("number", "number"), ("integer", "integer")):
            if _takes(schema, kind):
                bound = {"type": kind}
                limits = {"low": bound, "high": bound, "log": {"type": "boolean"}}
                words.append(_word(word, _object(limits, ("low", "high"))))
        return _described(schema) | {"anyOf": words}

    def _worded(self, schema: Schema) -> Schema:
        """The schema with every field of its mappings open to words."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/$defs/")
            if name + WORDED not in self._defs:
                self._defs[name + WORDED] = {}  # while it is made: parts name one another
                self._defs[name + WORDED] = self._worded(self._defs[name])
            return {**schema, "$ref": f"{schema['$ref']}{WORDED}"}
        if "anyOf" in schema:
            return {**schema, "anyOf": [self._worded(option) for option in schema["anyOf"]]}
        if "properties" in schema:
            fields = {
                key: value if _is_done(value) else self._with_words(value)
                for key, value in schema["properties"].items()
            }
            return {**schema, "properties": fields}
        return schema


def _is_done(schema: Schema) -> bool:
    """Whether a field cannot be a word, or allows it already."""
    return "const" in schema or schema.get("$ref", "").startswith("#/$defs/arm ")


def _kind(registry: Registry) -> str:
    return registry.kind.replace(" ", "_")


def _tidy(schema: Any) -> Any:
    """Without titles made of names; a registered part becomes a reference to its kind."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "x-part" in schema:
        return _described(schema) | {"$ref": f"#/$defs/{schema['x-part']}"}
    return {
        key: {name: _tidy(value) for name, value in item.items()}
        if key in ("properties", "$defs")
        else _tidy(item)
        for key, item in schema.items()
        if not (key == "title" and isinstance(item, str)) and key != "default"
    }


def _described(schema: Schema) -> Schema:
    return {"description": schema["description"]} if "description" in schema else {}


def _word(name: str, content: Schema) -> Schema:
    return _object({name: content}, (name,))


def _object(properties: Schema, required: tuple[str, ...]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _takes(schema: Schema, kind: str) -> bool:
    """Whether a value may be a number (of this kind)."""
    kinds = ("number", "integer") if kind == "number" else ("integer",)
    return schema.get("type") in kinds or any(_takes(s, kind) for s in schema.get("anyOf", ()))
