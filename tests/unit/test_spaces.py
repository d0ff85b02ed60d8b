"""From what a user names to a sweep: names, files, YAML, overrides; and back by `show`."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_sweep import DATA, fake_spec

from orchestrator.search.tree import full_tree
from orchestrator.show import show_yaml
from orchestrator.spaces import built_in_names, load_space
from search_spaces.words import Choice, choice, one_of
from trainables.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = """
from search_spaces.quickstart import quickstart


def small():
    return quickstart().model_copy(update={"seeds": (5,)})


def wrong():
    return 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(FILE)
    return path


def keys(spec):
    return set(full_tree(spec, DATA, "cpu").nodes)


@pytest.mark.parametrize("name", built_in_names())
def test_built_in_spaces_and_their_yaml(name, tmp_path):
    """`show` prints what `run` accepts, and it leads to the same keys."""
    spec = load_space(name)
    path = tmp_path / "shown.yaml"
    path.write_text(show_yaml(name, (), None))
    again = load_space(str(path))
    assert again == spec
    assert keys(again) == keys(spec)
    assert load_space(str(path), ["seeds=[7]"]).seeds == (7,)


def test_show_of_a_nested_space_leads_to_the_same_keys(tmp_path):
    spec = fake_spec(
        prune=one_of(
            {"name": "snnl", "ratio": choice(0.1, 1e-05)},
            {"criterion": "random", "site": one_of("conv", "block"), "finetune": {"epochs": 0}},
        )
    )
    (tmp_path / "a.yaml").write_text(spec.to_yaml())
    shown = show_yaml(str(tmp_path / "a.yaml"), (), None)
    (tmp_path / "b.yaml").write_text(shown)
    assert keys(load_space(str(tmp_path / "b.yaml"))) == keys(spec)
    assert shown == spec.to_yaml()


def test_the_command_show_prints_yaml_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "orchestrator", "show", "quickstart", "--set", "seeds=[4]"]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=True
    )
    (tmp_path / "shown.yaml").write_text(done.stdout)
    spec = load_space(str(tmp_path / "shown.yaml"))
    assert keys(spec) == keys(load_space("quickstart", ["seeds=[4]"]))


def test_a_function_of_a_file(file):
    assert load_space(f"{file}:small").seeds == (5,)
    assert keys(load_space(f"{file}:small")) == keys(load_space("quickstart", ["seeds=[5]"]))


@pytest.mark.parametrize(
    ("overrides", "read"),
    [
        (["iterations=3"], lambda s: s.iterations == 3),
        (["training.epochs=7"], lambda s: s.training.epochs == 7),
        (["data.num_images=99"], lambda s: s.data.num_images == 99),
        (["search.sampler=tpe", "search.trials=9"], lambda s: s.search.trials == 9),
        (["prune.ratio={choice: [0.1, 0.4]}"], lambda s: s.prune["ratio"] == Choice((0.1, 0.4))),
        (["prune=random"], lambda s: s.prune == "random"),
        (
            ["baseline.training={epochs: 3}"],
            lambda s: s.baseline == {"name": "vanilla", "training": {"epochs": 3}},
        ),
        (["seeds=[3, 4]", "controls=[]"], lambda s: (s.seeds, s.controls) == ((3, 4), ())),
    ],
)
def test_overrides(overrides, read):
    assert read(load_space("quickstart", overrides))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("quikstart", [], r"space 'quikstart', did you mean 'quickstart'\? Or give FILE.py"),
        ("no-such", [], r"space 'no-such' \(known: .*quickstart\); or give FILE.py:FUNCTION"),
        ("nowhere.yaml", [], "no such file 'nowhere.yaml'"),
        ("nowhere.py:f", [], "no such file 'nowhere.py'"),
        ("quickstart:other", [], "no function 'other' in quickstart:other .*quickstart"),
        ("quickstart", ["iteration=3"], "unknown field 'iteration', did you mean 'iterations'"),
        ("quickstart", ["training.epoch=3"], "epoch', did you mean 'epochs'"),
        ("quickstart", ["iterations"], "--set needs dotted.key=value but got 'iterations'"),
        ("quickstart", ["=3"], "--set needs dotted.key=value"),
        ("quickstart", ["seeds=[1"], r"--set seeds: '\[1': not YAML"),
        ("quickstart", ["iterations.n=3"], "--set iterations.n: 'iterations' has no fields"),
        ("quickstart", ["iterations=many"], "iterations: input should be .* but got 'many'"),
        ("quickstart", ["iterations=0"], "iterations: input should be .* but got 0"),
        ("quickstart", ["prune.ratio=1.2"], r"prune ratio must be in \(0, 1\) but got 1.2"),
        ("quickstart", ["training.augment.degree=9"], "did you mean 'degrees'"),
    ],
)
def test_mistakes_in_one_line(name, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        load_space(name, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "a search space is a mapping but this is list"),
        ("a: [1", "not YAML"),
        ("name: x\n", "data: field required"),
    ],
)
def test_files_that_are_no_spaces(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"(?i){message}") as error:
        load_space(str(path))
    assert "\n" not in str(error.value)


def test_a_function_that_returns_something_else(file):
    with pytest.raises(UserError, match="returned int, not a SweepSpec"):
        load_space(f"{file}:wrong")
    with pytest.raises(UserError, match=r"no function 'my_space' .*\(it has: small, wrong\)"):
        load_space(str(file))


def test_a_spec_is_the_same_yaml_however_it_was_loaded(tmp_path):
    spec = load_space("quickstart")
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(spec.to_yaml()), sort_keys=True))
    assert load_space(str(path)).to_yaml() == spec.to_yaml()
