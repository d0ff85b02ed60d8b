"""A space for a table that nobody has described: what is guessed, what is asked; it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator
from real_tables import REAL, needs, write_images
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.spaces import load_space
from orchestrator.starting.column_names import attribute_kind, identifies, rank, sounds_malignant
from search_spaces.json_schema import shipped_schema
from trainables.data.synthetic import Synthetic, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init") / "set"
    write(Synthetic.Config(num_images=80, image_size=32), folder)
    return folder / "metadata.csv"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))


def init(*arguments):
    result = CliRunner().invoke(app, ["init", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def guessed(*arguments):
    return json.loads(init(*arguments, "--json"))


def mistake(*arguments):
    result = CliRunner().invoke(app, ["init", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def table(folder, rows, name="lesions.csv"):
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder / name


def lesions(folder, num=60, **more):
    """A table whose columns are named as somebody else would."""
    write_images(folder / "photos", [f"p{i}" for i in range(num)], ".png")
    rows = {
        "photo": [f"p{i}" for i in range(num)],
        "Diagnosis": [("naevus", "melanoma", "basal cell carcinoma")[i % 3] for i in range(num)],
        "patientAge": [20 + i for i in range(num)],
        "Subject_ID": [f"s{i // 2}" for i in range(num)],
    }
    return table(folder, rows | more)


def test_the_synthetic_set_is_understood_planned_and_complete_in_an_editor(synthetic):
    shown = init(synthetic)
    assert "column tone_group (skin tone): dark" in shown
    text = Path("metadata.yaml").read_text()
    assert text.startswith(f"# yaml-language-server: $schema={shipped_schema()}\n")
    schema = json.loads(Path(shipped_schema()).read_text())
    assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(text))) == []
    data = load_space("metadata.yaml").data
    assert (data.image, data.label, data.attribute, data.patient, data.image_size) == (
        "path", "label", "tone_group", "patient_id", 32,
    )  # fmt: skip
    assert data.malignant == ("bcc", "mel")
    planned = CliRunner().invoke(app, ["plan", "metadata.yaml", "--json"])
    plan = json.loads(planned.stdout)
    assert (plan["num_trials"], plan["notes"]) == (66, [])
    inspected = CliRunner().invoke(app, ["data", "inspect", "metadata.yaml", "--json"])
    assert json.loads(inspected.stdout)["counts"]["train"]["mel"]["dark"] > 0


def test_another_table_its_folder_its_ending_and_an_age(tmp_path):
    found = guessed(lesions(tmp_path))["columns"]
    assert found == {
        "image": "photo", "root": str(tmp_path / "photos"), "suffix": ".png",
        "label": "Diagnosis", "attribute": "patientAge", "threshold": 50.0,
        "further_attributes": [], "patient": "Subject_ID", "split": None,
        "malignant": ["basal cell carcinoma", "melanoma"],
    }  # fmt: skip
    assert load_space("lesions.yaml").data.threshold == 50.0


def test_what_the_user_says_is_not_guessed(tmp_path):
    path = lesions(tmp_path, sex=["f", "m"] * 30, site=["arm", "leg", "arm", ""] * 15)
    found = guessed(path, "--attribute", "site", "--patient", "photo", "--out", "a.yaml")
    assert found["columns"]["attribute"] == "site"
    assert found["columns"]["patient"] == "photo"
    assert found["columns"]["further_attributes"] == ["sex", "patientAge"]
    text = Path("a.yaml").read_text()
    assert "attribute: site  # its values are the groups" in text
    assert "attribute: site  # (guessed)" not in text
    assert "# thresholds: {patientAge: 50.0}" in text
    assert any("site: 15 images of unknown group" in line for line in found["not_known"])


def test_a_published_split_is_used_and_an_incomplete_one_is_not(tmp_path):
    parts = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    assert guessed(lesions(tmp_path, partition=parts))["columns"]["split"] == "partition"
    assert load_space("lesions.yaml").data.split.by == "column"
    parts = ["train"] * 50 + ["test"] * 10
    found = guessed(lesions(tmp_path / "photos", partition=parts), "--out", "b.yaml")
    assert found["columns"]["split"] is None


def test_what_is_not_known_is_said(tmp_path):
    path = lesions(tmp_path)
    rows = pd.read_csv(path).drop(columns="Subject_ID")
    rows["Diagnosis"] = ["a", "b"] * 30
    rows.loc[0, "photo"] = "gone"
    rows.to_csv(path, index=False)
    unknown = " ".join(guessed(path)["not_known"])
    for words in ("patient: no column found", "malignant: no class", "1 rows have no image file"):
        assert words in unknown


@pytest.mark.parametrize(
    ("drop", "arguments", "parts"),
    [
        (["Diagnosis"], [], ["--label", "patientAge"]),
        (["patientAge"], [], ["--attribute", "Subject_ID"]),
        (["photo"], [], ["--images DIR", "--image"]),
        ([], ["--label", "Diagnose"], ["'Diagnose'", "did you mean 'Diagnosis'?"]),
        ([], ["--attribute", "photo"], ["--attribute photo", "60 known values"]),
        ([], ["--images", "nowhere"], ["--images nowhere", "no such folder"]),
    ],
)
def test_what_cannot_be_guessed_is_asked_for_in_one_line(tmp_path, drop, arguments, parts):
    path = lesions(tmp_path)
    pd.read_csv(path).drop(columns=drop).to_csv(path, index=False)
    if arguments[:2] == ["--attribute", "photo"]:
        arguments = ["--attribute", "Subject_ID"]
        rows = pd.read_csv(path)
        rows["Subject_ID"] = [f"s{i}" for i in range(60)]
        rows.to_csv(path, index=False)
        parts = ["--attribute Subject_ID", "60 known values"]
    line = mistake(path, *arguments)
    assert [part for part in parts if part not in line] == [], line
    assert not Path("lesions.yaml").exists()


def test_a_space_that_is_there_is_not_overwritten(synthetic):
    Path("mine.yaml").write_text("mine")
    assert "--out mine.yaml is there already" in mistake(synthetic, "--out", "mine.yaml")
    assert Path("mine.yaml").read_text() == "mine"


@needs("HAM10000_metadata.csv")
def test_the_table_of_ham10000(tmp_path):
    """The published table, with generated images under its names."""
    rows = pd.read_csv(REAL / "HAM10000_metadata.csv")
    write_images(tmp_path / "images", rows["image_id"])
    rows.to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    found = guessed(tmp_path / "HAM10000_metadata.csv")["columns"]
    assert (found["image"], found["suffix"], found["label"]) == ("image_id", ".jpg", "dx")
    assert (found["attribute"], found["patient"]) == ("sex", "lesion_id")
    assert found["further_attributes"] == ["age"]
    assert found["malignant"] == ["bcc", "mel"]


KNOWN = {
    "ham10000": "lesion_id,image_id,dx,dx_type,age,sex,localization",
    "isic2019": "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
    "fitzpatrick17k": "md5hash,fitzpatrick_scale,label,nine_partition_label",
    "pad_ufes_20": "patient_id,lesion_id,img_id,fitspatrick,gender,age,diagnostic",
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_table_of_a_published_data_set_is_known(name, tmp_path):
    columns = KNOWN[name].split(",")
    line = mistake(table(tmp_path, {column: ["x"] for column in columns}))
    assert line.endswith(f"fatefront data inspect '{{name: {name}, root: {tmp_path}}}'")
    assert "this is a table of" not in mistake(table(tmp_path, {c: ["x"] for c in columns[:2]}))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("age_approx", "age"), ("image", None), ("Fitzpatrick_scale", "skin tone"), ("stage", None),
     ("skin_type", "skin tone"), ("gender", "sex"), ("patientAge", "age"), ("essex", None)],
)  # fmt: skip
def test_names_of_attributes(name, kind):
    assert attribute_kind(name) == kind


def test_other_names():
    assert rank("dx", ("label", "dx")) < rank("dx_type", ("label", "dx"))
    assert identifies("patient_id", ("patient",)) == 0
    assert identifies("patient_age", ("patient",)) is None
    assert sounds_malignant("Malignant melanoma")
    assert not sounds_malignant("non-malignant")
    assert not sounds_malignant("melanocytic nevus")


@pytest.mark.slow
def test_the_written_space_runs_as_it_stands_but_for_its_size(synthetic, tmp_path):
    """The real command line from table to front; fewer trials and epochs."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "orchestrator"]
    made = [*command, "init", synthetic, "--out", "mine.yaml"]
    subprocess.run(made, env=environment, check=True)
    small = ("training.epochs=1", "finetune.epochs=1", "seeds=[0]", "iterations=1",
             "prune.ratio=0.05")  # fmt: skip
    done = subprocess.run(
        [*command, "run", "mine.yaml", "--tracking-uri", "none", "--json",
         *(word for field in small for word in ("--set", field))],
        env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["num_done"], document["num_failed"]) == (4, 0)
