"""Spaces that are YAML but describe no sweep."""

from __future__ import annotations

from typing import Any

import yaml
from hostile_case import Case, text

RECIPE = {"epochs": 1, "batch_size": 8, "schedule": "constant"}
SPACE: dict[str, Any] = {
    "name": "hostile",
    "data": {"name": "synthetic", "num_images": 64, "image_size": 32, "classes": ["nv", "mel"]},
    "backbone": "resnet18",
    "training": RECIPE,
    "finetune": RECIPE,
    "prune": {"criterion": "snnl", "ratio": 0.1, "site": "conv"},
    "iterations": 1,
    "seeds": [0],
    "search": {"sampler": "grid"},
}


def _space(case: str, says: tuple[str, ...], /, **changes: Any) -> Case:
    document = {k: v for k, v in (SPACE | changes).items() if v is not ...}
    return Case(
        f"space: {case}", ("show", "{}/s.yaml"), ("s.yaml", *says),
        text("s.yaml", yaml.safe_dump(document, allow_unicode=True)),
    )  # fmt: skip


CASES = [
    _space("unknown key", ("unknown field 'itertions'", "'iterations'"), itertions=3),
    _space("unknown key deep", ("epoks", "'epochs'"), training=RECIPE | {"epoks": 1}),
    _space("no data", ("data",), data=...),
    _space("data is a number", ("data set needs a name", "synthetic"), data=3),
    _space("unknown data set", ("'sinthetic'", "'synthetic'"), data="sinthetic"),
    _space("unknown backbone", ("'resnet81'", "'resnet18'"), backbone="resnet81"),
    _space("backbone is a list", ("backbone", "needs a name"), backbone=["resnet18"]),
    _space("part's name is a list", ("backbone", "name"), backbone={"name": ["resnet18"]}),
    _space("unknown baseline", ("'vanila'", "'vanilla'"), baseline="vanila"),
    _space("baseline is a number", ("baseline", "3"), baseline=3),
    _space("baseline is null", ("baseline",), baseline=None),
    _space("prune is a number", ("prune", "7"), prune=7),
    _space("prune is null", ("prune",), prune=None),
    _space("prune is a list", ("prune",), prune=["snnl"]),
    _space("prune's name is a mapping", ("name",), prune={"name": {"a": 1}}),
    _space("unknown criterion", ("'snn'", "'snnl'"), prune="snn"),
    _space("ratio above 1", ("ratio", "(0, 1)", "1.2"), prune={"criterion": "snnl", "ratio": 1.2}),
    _space(
        "ratio negative", ("ratio", "(0, 1)", "-0.1"), prune={"criterion": "snnl", "ratio": -0.1}
    ),
    _space("ratio NaN", ("ratio", "nan"), prune={"criterion": "snnl", "ratio": float("nan")}),
    _space("ratio is text", ("ratio", "'lots'"), prune={"criterion": "snnl", "ratio": "lots"}),
    _space(
        "ratio with decimal comma", ("ratio", "'0,1'"), prune={"criterion": "snnl", "ratio": "0,1"}
    ),
    _space(
        "learning rate inf",
        ("learning_rate", "inf"),
        training=RECIPE | {"learning_rate": float("inf")},
    ),
    _space(
        "learning rate NaN",
        ("learning_rate", "nan"),
        training=RECIPE | {"learning_rate": float("nan")},
    ),
    _space(
        "weight decay inf",
        ("weight_decay", "inf"),
        training=RECIPE | {"weight_decay": float("inf")},
    ),
    _space("epochs negative", ("epochs", "-1"), training=RECIPE | {"epochs": -1}),
    _space("epochs are true", ("epochs", "True"), training=RECIPE | {"epochs": True}),
    _space("batch size 1", ("batch_size", "1"), training=RECIPE | {"batch_size": 1}),
    _space("iterations 0", ("iterations", "0"), iterations=0),
    _space("iterations huge", ("iterations", "1000000000"), iterations=10**9),
    _space("seeds empty", ("seeds",), seeds=[]),
    _space("seeds twice", ("seeds", "distinct", "[1, 1]"), seeds=[1, 1]),
    _space("seed negative", ("seeds", "at least 0"), seeds=[-1]),
    _space("seed huge", ("seeds", "10000"), seeds=[10**40]),
    _space("seeds are text", ("seeds",), seeds="0,1"),
    _space("control unknown", ("'rndom'", "'random'"), controls=["rndom"]),
    _space("reference unknown", ("reference", "'vanila'"), reference="vanila"),
    _space("name climbs out", ("name", "'../x'"), name="../x"),
    _space("name with control characters", ("name",), name="a\x1b[2Jb"),
    _space("name with direction marks", ("name",), name="a\u202egpj.b"),
    _space("name ends in a line break", ("name",), name="abc\n"),
    _space("name of 10,000 letters", ("name", "at most 100 characters"), name="a" * 10_000),
    _space("layer unknown", ("layer", "'layer9'"), prune={"criterion": "snnl", "layer": "layer9"}),
    _space("sampler unknown", ("sampler", "'annealing'", "tpe"), search={"sampler": "annealing"}),
    _space(
        "grid over a real number",
        ("grid", "choice"),
        prune={"criterion": "snnl", "ratio": {"number": {"low": 0.1, "high": 0.2}}},
    ),
    _space(
        "range upside down",
        ("low <= high", "0.9"),
        prune={"criterion": "snnl", "ratio": {"number": {"low": 0.9, "high": 0.2}}},
    ),
    _space(
        "range with NaN",
        ("number", "nan"),
        search={"sampler": "random", "trials": 5},
        prune={"criterion": "snnl", "ratio": {"number": {"low": float("nan"), "high": 0.2}}},
    ),
    _space(
        "range without end",
        ("number", "inf"),
        search={"sampler": "random", "trials": 5},
        prune={"criterion": "snnl", "ratio": {"number": {"low": 0.1, "high": float("inf")}}},
    ),
    _space(
        "range of text",
        ("number",),
        prune={"criterion": "snnl", "ratio": {"number": {"low": "a", "high": "b"}}},
    ),
    _space(
        "integers that are none",
        ("integer",),
        prune={"criterion": "snnl", "ratio": {"integer": {"low": "a", "high": 3}}},
    ),
    _space(
        "grid of 10^12 integers",
        ("grid", "1000000000000"),
        prune={
            "criterion": "snnl",
            "ratio": 0.1,
            "finetune": {"epochs": {"integer": {"low": 1, "high": 10**12}}},
        },
    ),
    _space("choice of nothing", ("choice",), prune={"criterion": "snnl", "ratio": {"choice": []}}),
    _space(
        "choice of text",
        ("choice", "'abc'"),
        prune={"criterion": "snnl", "ratio": {"choice": "abc"}},
    ),
    _space("one_of of a number", ("one_of", "5"), prune={"one_of": 5}),
    _space("trials 0", ("trials", "0"), search={"trials": 0}),
    _space("hours inf", ("hours", "inf"), search={"hours": float("inf")}),
    _space("threads huge", ("threads", "1000000"), compute={"threads": 10**6}),
    _space("image size 0", ("image_size", "0"), data={"name": "synthetic", "image_size": 0}),
    _space(
        "image size huge",
        ("image_size", "1000000"),
        data={"name": "synthetic", "image_size": 10**6},
    ),
    _space("images huge", ("num_images",), data={"name": "synthetic", "num_images": 10**15}),
]
