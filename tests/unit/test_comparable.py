"""Data in which groups cannot be compared: said before anything is trained, and of an empty front.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_sweep import RECIPE, run_tiny, tiny_spec
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.doctor.space import look_at_space
from trainables.data.comparable import comparability_warnings
from trainables.data.synthetic import Synthetic, write
from trainables.data.table import TableFile
from trainables.metrics.fairness import fairness_gaps
from trainables.trial_spec import Recipe

CLASSES, GROUPS = ("mel", "nv"), ("dark", "light")


def warned(*splits: list) -> tuple[str, ...]:
    """Splits as rows of classes, columns of groups."""
    count_SCG = np.array(splits)
    classes = [f"c{number}" for number in range(count_SCG.shape[1])]
    return comparability_warnings(count_SCG, classes, ["a", "b", "c"][: count_SCG.shape[2]])


GOOD = [[5, 5], [5, 5]]


def test_nothing_is_said_of_groups_that_share_classes() -> None:
    assert warned(GOOD, GOOD, GOOD) == ()
    thin = [[1, 1], [1, 1]]
    assert warned(thin, thin, thin) == ()


def test_what_is_missing_where_and_what_it_means() -> None:
    (line,) = warned(GOOD, [[5, 0], [5, 5]], GOOD)
    assert line.startswith(
        "validation: no class can be compared between groups (b has only c1): in mode corrected "
        "FATE is undefined for every model and a front by it stays empty; use "
    )
    assert "data.split.seed" in line
    (line,) = warned(GOOD, GOOD, [[5, 0], [0, 5]])
    assert line.startswith("test: no class can be compared between groups (a has only c0; b has")
    (line,) = warned(GOOD, [[5, 0], [5, 0]], GOOD)
    assert line.startswith("validation: no image of group b: FATE is undefined")
    (line,) = warned([[5, 0], [5, 0]], GOOD, GOOD)
    assert line.startswith("train: no image of group b: what reads the group (snnl, ")
    # one of three groups: gaps are between the other two
    three = [[5, 5, 5], [5, 5, 5]]
    (line,) = warned(three, [[5, 5, 0], [5, 5, 0]], three)
    assert line.startswith("validation: no image of group c, which is in no figure of that split")


def test_it_is_said_exactly_where_the_metric_is_undefined() -> None:
    """Whatever is predicted: every table of 0, 1 or 2 images of two classes and two groups."""
    rng = np.random.default_rng(0)
    seen = set()
    for cells in itertools.product((0, 1, 2), repeat=4):
        count_CG = np.array(cells).reshape(2, 2)
        kept = count_CG.sum(0) > 0
        count_GCC = np.zeros((2, 2, 2), dtype=int)
        for c, g in np.ndindex(2, 2):
            for predicted in rng.integers(0, 2, count_CG[c, g]):
                count_GCC[g, c, predicted] += 1
        undefined = fairness_gaps(count_GCC[kept])["eodd_hardt"].value is None
        lines = warned(GOOD, count_CG, GOOD)
        assert bool(lines) == undefined, cells
        seen.add(undefined)
    assert seen == {True, False}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A YAML space of real files in which no dark lesion is a melanoma."""
    folder = tmp_path_factory.mktemp("comparable")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(folder / "cache"))
    config = Synthetic.Config(
        num_images=60, image_size=32, classes=CLASSES, minority_share=0.4, images_per_patient=1.0
    )
    table = pd.read_csv(write(config, folder / "set"))
    table = table[(table["tone_group"] != "dark") | (table["label"] != "mel")]
    table.to_csv(folder / "set/some.csv", index=False)
    yield tiny_spec(
        data=TableFile.Config(
            path=str(folder / "set/some.csv"), attribute="tone_group", patient="patient_id",
            image_id="image_id", image_size=32,
        ),
        training=Recipe(epochs=1, **RECIPE), seeds=(0,), controls=(),
        prune={"criterion": "magnitude", "ratio": 0.3, "site": "conv"},
    ), folder  # fmt: skip
    patch.undo()


SAID = "warning: validation: no class can be compared between groups (dark has only nv)"


def call(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)], terminal_width=400)


def test_it_is_said_before_anything_is_trained(space):
    spec, folder = space
    file = folder / "space.yaml"
    file.write_text(spec.to_yaml())
    for verb in (["plan"], ["data", "inspect"]):
        lines = call(*verb, file).stdout.splitlines()
        assert sum(line.startswith(SAID) for line in lines) == 1, verb
        document = json.loads(call(*verb, file, "--json").stdout)
        assert sum(line in f"{SAID}" or SAID[9:] in line for line in document["warnings"]) == 1
    found, _ = look_at_space(str(file))
    assert [f.status for f in found if f.check == "groups"] == ["warn"] * 2  # validation, test


def test_an_empty_front_says_why(space, tmp_path):
    spec, _ = space
    sweep = tmp_path / "sweep"
    run_tiny(sweep, Path(spec.data.path).parents[1] / "cache", **dict(spec))
    why = "no class is defined in both groups of any pair"
    for verb in (("report",), ("export", "--to", tmp_path / "out")):
        result = call(verb[0], sweep, *verb[1:])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert why in line
    shown = call("status", sweep).stdout
    (line,) = [text for text in shown.splitlines() if text.startswith("nothing on the front: ")]
    assert why in line
    assert SAID in shown
    assert why in json.loads(call("status", sweep, "--json").stdout)["empty_because"]
    notes = json.loads(call("tables", sweep, "--json").stdout)["notes"]
    assert sum(note.startswith(SAID.removeprefix("warning: ")) for note in notes) == 1
    assert not any(note.startswith("test: ") for note in notes)
    assert any("one seed: the 95 % intervals are over patients alone" in note for note in notes)
