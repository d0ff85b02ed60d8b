"""The command line as a contract: verbs and options, exit codes, one-line errors, pure stdout."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
import yaml
from tiny_sweep import tiny_spec
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.console import exit_codes
from orchestrator.ledger.records import Ledger
from orchestrator.panels import PANELS
from orchestrator.plan import plan_space
from orchestrator.search.tree import full_tree
from orchestrator.spaces import load_space
from search_spaces.sweep_spec import Search
from search_spaces.words import choice
from trainables.errors import UserError
from trainables.trial_spec import DataIdentity

ROOT = Path(__file__).resolve().parents[2]
SPACE = ["--set", "--json"]
VERBS = {
    "run": [
        "SPACE", "--out", "--set", "--trials", "--configurations", "--hours", "--workers",
        "--gpus-per-trial", "--store", "--tracking-uri", "--seed", "--address", "--cache-gb",
        "--retry-failed", "--max-disk", "--stalled-after", "--checkpoint-every",
        "--log-format", "--notify", "--json",
    ],
    "plan": ["SPACE", *SPACE],
    "show": ["SPACE", "--set", "--key"],
    "status": ["WHERE", "--address", "--json"],
    "doctor": ["SPACE", "--out", "--store", "--tracking-uri", "--json"],
    "init": [
        "TABLE", "--images", "--out", "--image", "--label", "--attribute", "--patient", "--json",
    ],
    "schema": ["--to"],
    "watch": ["WHERE", "--log-format", "--json"],
    "export": [
        "FOLDER", "--to", "--no-test", "--onnx", "--torch-export", "--register", "--remake",
        "--json",
    ],
    "report": ["FOLDER", "--to", "--split", "--images", "--json"],
    "evaluate": [
        "PREDICTIONS", "--label", "--prediction", "--group", "--reference", "--patient", "--image",
        "--probabilities", "--mode", "--absent", "--min-support", "--within", "--malignant",
        "--specificity", "--replicates", "--html", "--json",
    ],
    "tables": [
        "FOLDER", "--format", "--style", "--split", "--mode", "--reference", "--published",
        "--seeds", "--intervals", "--to", "--json",
    ],
    "exits": ["FOLDER", "--key", "--threshold", "--device", "--json"],
    "audit": ["TABLE", "--json"],
    "trial": ["SPEC", "--store", "--device", "--profile", "--json"],
    "predict": [
        "MODEL", "TABLE", "--to", "--root", "--image", "--group", "--batch-size", "--device",
        "--json",
    ],
    "merge": ["FOLDERS", "--out", "--no-weights", "--json"],
    "ui": ["FOLDER", "--port", "--optuna", "--optuna-port", "--no-open"],
    "server": [
        "--folder", "--backend-store-uri", "--artifacts", "--host", "--port", "--auth",
        "--allowed-hosts", "--workers",
    ],
    "data prepare": ["SPACE", *SPACE],
    "data inspect": ["SPACE", "--set", "--against", "--json"],
    "data duplicates": ["SPACE", "--to", "--set", "--max-distance", "--turned", "--json"],
    "data fetch": ["NAME", "--to", "--limit", "--steps", "--json"],
    "data synthesize": ["TO", *SPACE],
    "cluster check": ["FILE", "--prices", "--json"],
    "submit": ["SPACE", "--set", "--out", "--address", "--json"],
    "jobs": ["--address", "--json"],
    "logs": ["JOB", "--address", "--follow"],
    "stop": ["JOB", "--address", "--json"],
}  # fmt: skip


def call(*arguments: object):
    return CliRunner().invoke(app, list(map(str, arguments)))


def mistake(*arguments: object) -> str:
    """The one line on stderr of a user's mistake; with --json the document says the same."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    line = line.removeprefix("error: ")
    if "--json" in arguments:
        assert json.loads(result.stdout) == {"error": line, "exit_code": 2}
    else:
        assert result.stdout == ""
    return line


def parameters(command) -> list[str]:
    return [
        p.opts[0] if p.param_type_name == "option" else p.name.upper()
        for p in command.params
        if p.name != "help"
    ]


def test_verbs_and_options_are_these():
    """A new verb or option is a decision: write it into this table and docs/contracts.md."""
    root = typer.main.get_command(app)
    found = {}
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        for more, verb in (inner or {"": command}).items():
            found[f"{name} {more}".strip()] = parameters(verb)
    assert found == VERBS
    assert parameters(root) == ["--version", "--install-completion", "--show-completion"]
    page = (ROOT / "docs/contracts.md").read_text()
    for verb, options in VERBS.items():
        assert f"fatefront {verb}" in page
        for option in options:
            assert not option.startswith("--") or f"`{option}" in page, f"{verb} {option}"


@pytest.mark.parametrize("verb", ["", *VERBS, "data"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_every_verb(verb, flag):
    result = call(*verb.split(), flag)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    for option in VERBS.get(verb, []):
        assert not option.startswith("--") or option in result.stdout


def test_every_verb_is_in_one_panel_and_in_its_order():
    verbs = [verb for verbs in PANELS.values() for verb in verbs]
    root = typer.main.get_command(app)
    assert root.list_commands(None) == verbs
    page = call("--help").stdout
    places = [page.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert page.index("─ Look ─") < page.index("│ report ") < page.index("─ Models and pred")


def test_no_arguments_is_the_help():
    assert call().stdout == call("--help").stdout
    assert call("data").stdout == call("data", "--help").stdout


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"fatefront {version('fatefront')}\n")


def test_help_imports_nothing_heavy():
    """What makes it fast: the wall clock of a busy machine says nothing."""
    heavy = ("torch", "ray", "mlflow", "pandas", "numpy", "optuna", "pydantic", "pyarrow")
    program = (
        "import sys\nfrom orchestrator.__main__ import main\n"
        "sys.argv = ['fatefront', '--help']\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["rnu"], ["'rnu'", "'run'", "fatefront"]),
        (["run"], ["missing argument", "space", "fatefront run"]),
        (["run", "quickstart", "--trails", "3"], ["--trails", "--trials"]),
        (["run", "quickstart", "--trials", "many"], ["--trials", "'many'", "integer"]),
        (["run", "quickstart", "--hours=x"], ["--hours", "'x'", "number"]),
        (["export", "DIR"], ["missing option", "--to"]),
        (["status", "a", "b"], ["b"]),
        (["run", "quickstart", "--trials", "0"], ["--trials", "at least 1", "0"]),
        (["run", "quickstart", "--configurations", "-2"], ["--configurations", "-2"]),
        (["run", "quickstart", "--hours", "-1"], ["--hours", "above 0", "-1"]),
        (["run", "quickstart", "--hours", "nan"], ["--hours", "nan"]),
        (["run", "quickstart", "--workers", "0"], ["--workers", "at least 1", "0"]),
        (["run", "quickstart", "--gpus-per-trial", "1.5"], ["--gpus-per-trial", "1.5"]),
        (["run", "quickstart", "--gpus-per-trial", "-1"], ["--gpus-per-trial", "-1"]),
        (["run", "quickstart", "--gpus-per-trial", "nan"], ["--gpus-per-trial", "nan"]),
        (["run", "quickstart", "--tracking-uri", "./mlruns"], ["--tracking-uri", "./mlruns"]),
        (["run", "quickstart", "--store", "foo://x"], ["--store", "foo://x"]),
        (["run", "quickstart", "--tracking-uri", "postgresql://a:b@h/d"], ["holds a password"]),
        (["run", "quickstart", "--address", "ray://x:1"], ["--address", "ray://x:1"]),
        (["run", "quickstart", "--notify", "https:///x"], ["--notify", "a command"]),
        (["run", "quickstart", "--notify", " "], ["--notify", "a command"]),
        (["submit", "quickstart", "--notify", "x"], ["--notify", "FATEFRONT_NOTIFY"]),
        (["watch", "."], ["no sweep in ."]),
        (["plan", "quickstrat"], ["'quickstrat'", "'quickstart'"]),
        (["plan", "ham10000:papr"], ["'papr'", "did you mean 'paper'?"]),
        (["run", "quickstart", "--log-format", "jsno"], ["--log-format", "did you mean 'json'?"]),
        (["run", "quickstart", "--gpus-per-trial", "atuo"], ["did you mean 'auto'?"]),
        (["plan", "quickstart", "--set", "search.objectives=[f1,fate_eod]"], ["'fate_eodd'?"]),
        (["plan", "nothere.yaml"], ["no such file", "nothere.yaml"]),
        (["plan", "nothere.py:space"], ["no such file", "nothere.py"]),
        (["plan", "quickstart", "--set", "epochs"], ["--set", "'epochs'"]),
        (["plan", "quickstart", "--set", "=3"], ["--set", "'=3'"]),
        (["plan", "quickstart", "--set", "seeds={"], ["--set seeds", "'{'"]),
        (["plan", "quickstart", "--set", "training.epoch=3"], ["'training.epoch'", "'epochs'"]),
        (["plan", "quickstart", "--set", "training.epochs=-1"], ["training.epochs", "0", "-1"]),
        (["plan", "quickstart", "--set", "training.epochs=x"], ["training.epochs", "'x'"]),
        (["plan", "quickstart", "--set", "training=3"], ["training", "3"]),
        (["plan", "quickstart", "--set", "seeds=[0,0]"], ["seeds", "distinct", "[0, 0]"]),
        (["plan", "quickstart", "--set", "prune.ratio=1.2"], ["ratio", "(0, 1)", "1.2"]),
        (["plan", "quickstart", "--set", "prune.criterion=snll"], ["'snll'", "'snnl'"]),
        (["plan", "quickstart", "--set", "backbone=resnet19"], ["'resnet19'", "'resnet18'"]),
        (["plan", "quickstart", "--set", "search.sampler=gird"], ["did you mean 'grid'?"]),
        (["plan", "quickstart", "--set", "data.num_images=-3"], ["num_images", "-3"]),
        (["data", "inspect", "quickstart", "--set", "data.attribute=hair"], ["attribute", "hair"]),
        (["data", "inspect", "{name: syntetic}"], ["'syntetic'", "'synthetic'"]),
        (["data", "inspect", "{name: }"], ["data.name", "None"]),
        (["data", "inspect", "{name: ["], ["YAML"]),
        (["data", "inspect", "{name: synthetic}", "--set", "data.limit=3"], ["--set"]),
        (["data", "inspect", "quickstart", "--against", "quickstrat"], ["'quickstart'"]),
        (["data", "duplicates", "quickstart"], ["missing option", "--to"]),
        (["data", "duplicates", "quickstart", "--to", "x", "--max-distance", "99"], ["63", "99"]),
        (["data", "fetch", "isic2020"], ["'isic2020'", "'isic2019'"]),
        (["data", "fetch", "isic2019", "--limit", "0"], ["--limit", "0"]),
        (["data", "synthesize", "x", "--set", "num_image=3"], ["'num_image'", "'num_images'"]),
        (["data", "synthesize", "x", "--set", "num_images={"], ["num_images", "'{'"]),
        (["show", "quickstart", "--key", "abc"], ["--key", "'quickstart'"]),
        (["status", "."], ["no sweep in ."]),
        (["status", __file__], ["DIR", "is a file"]),
        (["status", "x-20260101-000000", "--address", "head"], ["--address", "'head'", "8265"]),
        (["merge", __file__, "--out", "out"], ["DIR", "is a file"]),
        (["export", ".", "--to", "out"], ["no sweep in ."]),
        (["merge", ".", "--out", "out"], ["no sweep in ."]),
        (["tables", "."], ["no sweep in ."]),
        (["tables", ".", "--format", "mdd"], ["--format", "'mdd'", "'md'", "latex"]),
        (["tables", ".", "--split", "tset"], ["--split", "'tset'", "'test'"]),
        (["tables", ".", "--mode", "papr"], ["--mode", "'papr'", "'paper'"]),
        (["tables", ".", "--reference", "x"], ["--reference", "'x'", "vanilla, own"]),
        (["audit", "nothere.csv"], ["nothere.csv", "no such file"]),
        (["audit", "."], ["not a CSV file", "."]),
        (["trial", "nothere.yaml"], ["nothere.yaml", "no such file"]),
        (["predict", ".", "t.csv"], ["no model in ."]),
        (["predict", ".", "t.csv", "--batch-size", "0"], ["batch size", "0"]),
        (["evaluate", "nothere.csv"], ["nothere.csv"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(arguments, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = mistake(*arguments)
    assert [part for part in parts if part not in line] == [], line
    if arguments[0] != "show":
        assert mistake(*arguments, "--json") == line
    assert not (tmp_path / "runs").exists()


def test_files_and_folders_with_a_near_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "manifest.json").write_text("{}")
    assert "did you mean 'mine.yaml'?" in mistake("plan", "mien.yaml")
    assert "did you mean 'first'?" in mistake("status", "frist")
    assert "did you mean 'first'?" in mistake("watch", "frist")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["mapping"]),
        ("- a\n", ["mapping", "list"]),
        ("a: [\n", ["not YAML"]),
        ("name: x\n", ["data", "required"]),
    ],
)
def test_space_files_that_are_none(text, parts, tmp_path):
    (tmp_path / "space.yaml").write_text(text)
    line = mistake("run", tmp_path / "space.yaml", "--json")
    assert [part for part in [*parts, "space.yaml"] if part not in line] == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["`data`"]),
        ("- a\n", ["`data`"]),
        ("a: [\n", ["not YAML"]),
        ("data: {name: syntetic}\n", ["'syntetic'", "'synthetic'"]),
        ("data: {name: synthetic, num_image: 3}\n", ["num_image", "'num_images'"]),
        ("data: {name: synthetic}\nbackbone: resnet18\n", ["baseline", "required"]),
        ("data: {name: synthetic}\nbackbone: resnet18\nbaseline: vanilla\nn: 1\n", ["prune"]),
    ],
)
def test_trial_files_that_are_none(text, parts, tmp_path):
    (tmp_path / "trial.yaml").write_text(text)
    line = mistake("trial", tmp_path / "trial.yaml", "--store", tmp_path / "store", "--json")
    assert [part for part in [*parts, "trial.yaml"] if part not in line] == [], line
    assert not (tmp_path / "store").exists()


def test_trial_on_an_unknown_device(tmp_path):
    (tmp_path / "trial.yaml").write_text("data: {name: synthetic}\n")
    assert "'tpu'" in mistake("trial", tmp_path / "trial.yaml", "--device", "tpu")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "sweep"
    for option in ("--out", "--store"):
        line = mistake("run", "quickstart", option, inside, "--json")
        assert line.startswith(option)
        assert f"{tmp_path / 'file'} is not a folder" in line
    assert str(tmp_path / "file") in mistake("data", "synthesize", tmp_path / "file")
    assert "is not a folder" in mistake("run", "quickstart", "--out", tmp_path / "file")


def test_a_sampler_without_a_budget(tmp_path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    # enough for every class in both groups: else a warning comes first
    small = ["--set", "data.num_images=80", "--set", "data.image_size=16"]
    line = mistake(
        "run", "quickstart", *small, "--set", "search.sampler=tpe", "--out", tmp_path / "sweep"
    )
    assert "tpe" in line
    assert "--trials" in line


def test_two_drivers_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    ledger = Ledger(tmp_path / "sweep").open()
    small = ["--set", "data.num_images=20", "--set", "data.image_size=16"]
    try:
        line = mistake("run", "quickstart", *small, "--out", tmp_path / "sweep", "--json")
    finally:
        ledger.close()
    assert "another `fatefront run`" in line


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("two\nlines"), 2, "two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("ours"), 1, "ZeroDivisionError: ours"),
    ],
)
def test_exit_codes(error, code, words, capsys):
    with pytest.raises(typer.Exit) as left, exit_codes(as_json=True):
        raise error
    assert left.value.exit_code == code
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": words, "exit_code": code}
    lines = printed.err.splitlines()
    assert words in lines[-1]
    assert (len(lines) > 1) is (code == 1)  # a traceback for ours only


def test_ctrl_c_in_a_run_says_how_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fatefront", "run", "my space.yaml"])
    with pytest.raises(typer.Exit), exit_codes(resumes=True):
        raise KeyboardInterrupt
    assert "go on with: fatefront run 'my space.yaml'" in capsys.readouterr().err


def test_show_is_a_space_with_the_same_keys(tmp_path):
    given = ["--set", "prune.ratio={choice: [0.1, 0.25]}", "--set", "seeds=[3]"]
    result = call("show", "quickstart", *given)
    assert result.exit_code == 0
    (tmp_path / "shown.yaml").write_text(result.stdout)
    spec = load_space(str(tmp_path / "shown.yaml"))
    assert spec == load_space("quickstart", given[1::2])
    assert yaml.safe_load(result.stdout)["prune"]["ratio"] == {"choice": [0.1, 0.25]}
    assert call("show", tmp_path / "shown.yaml").stdout == result.stdout
    data = DataIdentity("data", "groups")
    trees = [
        full_tree(s, data, "cpu").nodes for s in (spec, load_space("quickstart", given[1::2]))
    ]
    assert set(trees[0]) == set(trees[1])
    assert len(trees[0]) == 1 + 2 * 3 * 2 - 2  # root; per ratio and n: snnl, random; none once


def test_plan_of_a_grid_is_the_tree_counted_by_hand():
    plan = plan_space(tiny_spec(iterations=2), "cpu")
    # per seed: a root, `none` x 2, and snnl at 2 ratios x 2
    assert (plan["num_trials"], plan["num_nodes"], plan["exact"]) == (14, 14, True)
    assert (plan["num_baselines"], plan["num_treatments"], plan["num_controls"]) == (2, 8, 4)
    assert plan["num_steps_without_sharing"] == 2 * (1 + (2 + 3) + 2 * (2 + 3))
    assert plan["bytes_without_sharing"] / plan["bytes"] == pytest.approx(32 / 14)


def test_plan_of_a_sampler_is_an_upper_bound_and_a_budget_lowers_it():
    def plan(**search):
        return plan_space(tiny_spec(search=Search(**search)), "cpu")

    whole = plan(sampler="tpe")
    assert (whole["num_trials"], whole["exact"]) == (8, False)
    fewer = plan(sampler="tpe", trials=5)
    assert (fewer["num_trials"], fewer["num_nodes"]) == (5, 8)
    assert fewer["seconds"] < whole["seconds"]
    assert fewer["bytes"] * 8 == whole["bytes"] * 5
    assert plan(sampler="tpe", trials=500)["num_trials"] == 8
    # one configuration: root, control and treatment of each of two seeds
    assert plan(sampler="tpe", configurations=1)["num_trials"] == 6
    first = plan(sampler="grid", configurations=1)
    assert (first["num_trials"], first["num_nodes"], first["exact"]) == (6, 6, True)
    assert plan(sampler="grid", trials=7)["exact"] is False


def test_plan_says_upper_bound_to_people():
    overrides = ["--set", "search.sampler=tpe", "--set", "data.num_images=50"]
    assert "upper bound" in call("plan", "quickstart", *overrides).stdout
    assert "upper bound" not in call("plan", "quickstart", *overrides[2:]).stdout


def test_plan_of_real_numbers_is_refused():
    result = call("plan", "quickstart", "--set", "search.sampler=tpe", "--set",
                  "prune.ratio={number: {low: 0.1, high: 0.2}}")  # fmt: skip
    assert result.exit_code == 2
    assert "real-valued" in result.stderr


def test_a_long_path_is_not_folded(tmp_path):
    folder = tmp_path / ("very_long_name_" * 8)
    result = call("data", "synthesize", folder, "--set", "num_images=1", "--set", "image_size=8")
    assert result.exit_code == 0
    assert str(folder / "metadata.csv") in result.stdout


def test_a_closed_pipe_is_no_error_of_ours():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -m orchestrator show quickstart | head -1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("name: quickstart\n", "")


def test_choice_words_stay_words():
    """``--set`` values are YAML, so the words of a space can be given on the command line."""
    spec = load_space("quickstart", ["prune.ratio={choice: [0.1, 0.3]}"])
    assert spec.prune["ratio"] == choice(0.1, 0.3)


def test_ctrl_c_ends_with_130(tmp_path):
    """At the entry point, where it reaches the shell; a long verb without Ray."""
    command = [sys.executable, "-m", "orchestrator", "data", "synthesize", str(tmp_path / "set")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--set", "num_images=20000", "--json"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "set/images").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert json.loads(out) == {"error": "interrupted", "exit_code": 130}
    assert err.strip() == "interrupted"
