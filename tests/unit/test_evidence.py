"""Evidence of a real tiny sweep: predictions by node, whose they are, floors and replicates."""

import shutil

import numpy as np
import pytest
from sklearn.metrics import f1_score
from tiny_sweep import copy_sweep, run_tiny

from orchestrator.datasets.images import IMAGES, read_images, split_images, write_images
from orchestrator.judging.evidence import open_evidence
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import load_records
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.store import Store, StoreError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("evidence")
    spec = run_tiny(base / "sweep", base / "cache")
    yield base / "sweep", load_dataset(spec.data, cache_dir=base / "cache")
    shutil.rmtree(base)


def evidence_of(folder):
    store = Store(str(folder / "store"))
    return open_evidence(folder, read_manifest(folder), store, load_records(folder))


def test_images_are_the_data_sets_without_a_name(original):
    folder, dataset = original
    for split in ("train", "validation", "test"):
        ours = read_images(folder, read_manifest(folder), split)
        wanted = split_images(dataset, split)
        for name in ("label_N", "group_N", "patient_N"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(wanted, name))
        assert (ours.digest, ours.num_classes, ours.num_groups) == (wanted.digest, 2, 2)
        rows = dataset.indices(("train", "validation", "test").index(split))
        of_patient = {}
        for patient, number in zip(dataset.patient_id_N[rows], ours.patient_N, strict=True):
            assert of_patient.setdefault(patient, number) == number
        assert len(set(of_patient.values())) == len(of_patient)
    text = (folder / IMAGES).read_bytes()
    with np.load(folder / IMAGES, allow_pickle=False) as arrays:
        kinds = {name: arrays[name].dtype.kind for name in arrays.files}
    assert {name for name, kind in kinds.items() if kind == "U"} == {
        "fingerprint", "train_digest", "validation_digest", "test_digest",
    }  # fmt: skip
    assert not any(str(name).encode() in text for name in dataset.image_id_N)


def test_replicates_hold_the_records_own_figures(original):
    folder, dataset = original
    evidence, records = evidence_of(folder), load_records(folder)
    keys = list(records)
    replicates = evidence.replicates([[key] for key in keys], num_replicates=20)
    for number, key in enumerate(keys):
        figures = records[key]["result"]["metrics"]["validation"]
        for name in ("f1", "eopp0", "eopp1", "eodd", "eodd_hardt"):
            assert replicates.value_AS[name][number, 0] == pytest.approx(figures[name], abs=1e-12)
    rows = dataset.indices(1)
    label, group = dataset.label_N[rows], dataset.group_N[rows]
    f1 = [
        f1_score(label[group == g], evidence.prediction_N(keys[0])[group == g], average="macro")
        for g in (0, 1)
    ]
    assert replicates.value_AS["f1"][0, 0] == pytest.approx(np.mean(f1))


def test_floors_are_those_of_the_predictions(original):
    folder, _ = original
    evidence, records = evidence_of(folder), load_records(folder)
    key = next(iter(records))
    floor = evidence.floor([key]).gaps["eodd_hardt"]
    figures = records[key]["result"]["metrics"]["validation"]
    assert floor.value == pytest.approx(figures["eodd_hardt"])
    assert floor.excess == pytest.approx(floor.value - floor.floor)
    assert 0 < floor.p_value <= 1
    assert evidence.debiased([key])["eodd_hardt"].value <= floor.value * 2**0.5 + 1e-9
    assert evidence.detectable([key], "eopp1") is None or evidence.detectable([key], "eopp1") > 0


def test_predictions_that_are_gone_or_not_the_records_are_said(original, tmp_path):
    folder = copy_sweep(original[0], tmp_path / "sweep")
    records = load_records(folder)
    store = Store(str(folder / "store"))
    gone, other, *_ = records
    path = store.node(gone)["files"]["validation.npz"]["path"]
    (folder / "store/nodes" / gone[:2] / gone / path).unlink()
    evidence = evidence_of(folder)
    evidence.records[other]["result"]["model"]["predictions_sha256"]["validation"] = "0" * 64
    problems = evidence.missing(records)
    assert set(problems) == {gone, other}
    assert "is gone" in problems[gone]
    assert "not those of its record" in problems[other]
    with pytest.raises(StoreError):
        evidence.floor([gone])
    shutil.rmtree(tmp_path / "sweep")


def test_a_file_of_other_data_or_damaged_is_refused(original, tmp_path):
    folder, dataset = original
    manifest = read_manifest(folder)
    with pytest.raises(UserError, match="older version"):
        read_images(tmp_path, manifest, "validation")
    (tmp_path / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:200])
    with pytest.raises(UserError, match="damaged"):
        read_images(tmp_path, manifest, "validation")
    write_images(tmp_path, dataset)
    other = manifest | {"data": manifest["data"] | {"group_digest": "0" * 64}}
    with pytest.raises(UserError, match="not of the data"):
        read_images(tmp_path, other, "validation")
