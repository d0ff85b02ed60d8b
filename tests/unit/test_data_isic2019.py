import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from real_tables import REAL, needs, write_images

from trainables.data.base import TEST, Table
from trainables.data.isic2019 import CLASSES, GROUND_TRUTH, ISIC2019, METADATA
from trainables.data.load import load_dataset, parse_data
from trainables.data.overlap import overlap_warnings
from trainables.data.published_split import published_split
from trainables.data.splits import assign_splits, splits_of_column, straddling_patients
from trainables.errors import UserError

needs_real = needs(GROUND_TRUTH, METADATA)
COUNTS = {
    "MEL": 4522, "NV": 12875, "BCC": 3323, "AK": 867, "BKL": 2624, "DF": 239, "VASC": 253,
    "SCC": 628,
}  # fmt: skip
FOLDER = "ISIC_2019_Training_Input"
LAYOUTS = (FOLDER, f"{FOLDER}/{FOLDER}", f"ISIC_2019_train/{FOLDER}", ".")


def tables(num: int = 48) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six images a class, two a lesion; some without sex, age, site or lesion."""
    names = [f"ISIC_{n:07d}" + ("_downsampled" if n % 5 == 0 else "") for n in range(num)]
    truth = pd.DataFrame({"image": names})
    for position, label in enumerate((*CLASSES, "UNK")):
        truth[label] = [float(n // 2 % 8 == position) for n in range(num)]
    metadata = pd.DataFrame(
        {
            "image": names,
            "age_approx": ["" if n % 7 == 6 else str(5 * (n % 17)) for n in range(num)],
            "anatom_site_general": ["", "head/neck", "anterior torso"] * (num // 3),
            "lesion_id": ["" if n % 8 == 7 else f"BCN_{n // 2:07d}" for n in range(num)],
            "sex": [("female", "male", "male", "")[n % 4] for n in range(num)],
        }
    )
    return truth, metadata


def write_set(root: Path, layout: str = FOLDER) -> tuple[pd.DataFrame, pd.DataFrame]:
    truth, metadata = tables()
    (root / layout).mkdir(parents=True, exist_ok=True)
    truth.to_csv(root / GROUND_TRUTH, index=False)
    metadata.to_csv(root / METADATA, index=False)
    for number, name in enumerate(truth["image"]):
        image = Image.new("RGB", (30, 20), (4 * number, 0, 0))
        image.save(root / layout / f"{name}.jpg", quality=100)
    return truth, metadata


def config(root: Path, **fields: object):
    return parse_data({"name": "isic2019", "root": str(root), **fields})


def table(root: Path, **fields: object) -> Table:
    return ISIC2019.table(config(root, **fields))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    _, metadata = write_set(tmp_path, layout)
    dataset = load_dataset(config(tmp_path, image_size=10), cache_dir=tmp_path / "cache")
    assert dataset.images_NHWC.shape == (48, 10, 10, 3)
    np.testing.assert_allclose(dataset.images_NHWC[:, 5, 5, 0], 4 * np.arange(48), atol=2)
    assert dataset.image_id_N.tolist() == metadata["image"].tolist()  # the suffix is kept
    assert dataset.classes == CLASSES
    assert dataset.label_N.tolist() == [n // 2 % 8 for n in range(48)]
    assert dataset.groups == ("female", "male")
    assert dataset.group_N.tolist() == [(0, 1, 1, -1)[n % 4] for n in range(48)]
    own = [row.lesion_id or f"image:{row.image}" for row in metadata.itertuples()]
    assert dataset.patient_id_N.tolist() == own
    assert not straddling_patients(own, dataset.split_N)
    assert dataset.malignant == ("MEL", "BCC", "SCC")


def test_attributes(tmp_path: Path) -> None:
    _, metadata = write_set(tmp_path)
    age = table(tmp_path, attribute="age", further_attributes=["site"])
    assert age.groups == ("under_60", "60_and_over")
    expected = [
        None if not years else "60_and_over" if int(years) >= 60 else "under_60"
        for years in metadata["age_approx"]
    ]
    assert age.rows["group"].tolist() == expected
    assert age.further_groups == {"site": ("anterior torso", "head/neck")}
    assert age.rows["group:site"].tolist() == [None, "head/neck", "anterior torso"] * 16
    with pytest.raises(UserError, match=r"data\.attribute.*'sex', 'age' or 'site' but got 'tone'"):
        config(tmp_path, attribute="tone")


def test_tables_below_or_elsewhere(tmp_path: Path) -> None:
    write_set(tmp_path / "images")
    whole = table(tmp_path / "images").rows
    for place in ("elsewhere", "images/ISIC_2019_train"):
        (tmp_path / place).mkdir()
        for name in (GROUND_TRUTH, METADATA):
            found = next(tmp_path.rglob(name))
            found.rename(tmp_path / place / name)
        fields = {"tables": str(tmp_path / place)} if place == "elsewhere" else {}
        pd.testing.assert_frame_equal(table(tmp_path / "images", **fields).rows, whole)
    with pytest.raises(UserError, match=r"data\.tables: no such folder"):
        table(tmp_path / "images", tables=str(tmp_path / "none"))


def test_mistakes_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"has no {GROUND_TRUTH}"):
        table(tmp_path)
    truth, metadata = write_set(tmp_path)
    truth.loc[1, "MEL"], truth.loc[2, "NV"] = 0.0, 0.5
    truth.loc[4, ["BCC", "UNK"]] = 0.0, 1.0
    truth.drop(index=9).to_csv(tmp_path / GROUND_TRUTH, index=False)
    metadata.loc[3, "sex"] = "femal"
    metadata.drop(index=10).to_csv(tmp_path / METADATA, index=False)
    with pytest.raises(UserError) as caught:
        table(tmp_path)
    of_truth, of_metadata = str(caught.value).split(f"({tmp_path / GROUND_TRUTH}); ")
    assert of_truth.split("; ") == [
        "2 images do not have one 1 among the classes: ISIC_0000001, ISIC_0000002",
        "1 images are of the class UNK: ISIC_0000004",
        f"1 images are not in {METADATA}: ISIC_0000010_downsampled ",
    ]
    assert of_metadata == (
        f"1 images are not in {GROUND_TRUTH}: ISIC_0000009; unknown sex: 'femal' "
        f"({tmp_path / METADATA})"
    )


@pytest.mark.parametrize(("wrong", "right"), [(GROUND_TRUTH, METADATA), (METADATA, GROUND_TRUTH)])
def test_a_fault_names_the_table_that_has_it_and_no_other(tmp_path: Path, wrong, right) -> None:
    frames = dict(zip((GROUND_TRUTH, METADATA), write_set(tmp_path), strict=True))
    frame = frames[wrong]
    pd.concat([frame, frame.iloc[[5]]]).to_csv(tmp_path / wrong, index=False)
    with pytest.raises(UserError, match=r"^1 images are listed twice: ISIC_0000005") as caught:
        table(tmp_path)
    assert str(caught.value).endswith(f"({tmp_path / wrong})")
    assert right not in str(caught.value)


def test_missing_and_damaged_images_in_one_error(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / FOLDER / "ISIC_0000004.jpg").unlink()
    (tmp_path / FOLDER / "ISIC_0000006.jpg").write_bytes(b"junk")
    told = r"2 of 48.*ISIC_0000004\.jpg: missing.*ISIC_0000006.*; .*data\.missing_images=skip$"
    with pytest.raises(UserError, match=told):
        load_dataset(config(tmp_path), cache_dir=tmp_path / "cache")
    skipped = table(tmp_path, missing_images="skip")
    assert len(skipped.rows) == 47
    assert skipped.warnings == (
        f"1 of 48 images of the table are not below {tmp_path} and were left out (ISIC_0000004)",
    )


def test_published_split(tmp_path: Path) -> None:
    _, metadata = write_set(tmp_path)
    dataset = load_dataset(
        config(tmp_path, split="paper", image_size=8), cache_dir=tmp_path / "cache"
    )
    known = metadata["image"][metadata["age_approx"] != ""].tolist()
    assert dataset.image_id_N.tolist() == known  # age 0 is an age
    assert dataset.warnings[0] == "split by paper: 6 images of unknown age were left out"
    assert np.bincount(dataset.split_N).tolist() == [25, 8, 9]
    assert any(line.startswith("split by paper: ") and "lesions have images in more" in line
               for line in dataset.warnings)  # fmt: skip


@pytest.mark.parametrize("num", [3, 8, 16, 24])
def test_published_split_of_very_few_images_is_one_line_of_ours(tmp_path: Path, num: int) -> None:
    truth, metadata = write_set(tmp_path)
    metadata["age_approx"] = "50"
    truth[:num].to_csv(tmp_path / GROUND_TRUTH, index=False)
    metadata[:num].to_csv(tmp_path / METADATA, index=False)
    with pytest.raises(UserError) as caught:
        table(tmp_path, split="paper", attribute="site")
    message = str(caught.value)
    assert message.startswith("data.split.by is paper, which needs 5 images of every class")
    assert "set data.split.by to patient or image" in message
    assert str(tmp_path / GROUND_TRUTH) in message
    assert "1 of 'NV', 2 of 'MEL'" in message if num == 3 else "of 'AK'" in message
    assert "n_splits" not in message
    assert "test_size" not in message


@pytest.mark.parametrize("held_out", [0.2, 0.4])
def test_published_split_of_as_many_images_as_asked_for_can_be_drawn(held_out: float) -> None:
    needed = round(2 / held_out)
    for num_classes in (2, 3, 8, 31, 114):
        labels = [str(k) for k in range(num_classes) for _ in range(needed + (k % 4) * (k % 3))]
        drawn = set(zip(labels, published_split(labels, held_out, "here"), strict=True))
        assert len(drawn) == 3 * num_classes


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated image for every row of the real tables, folders nested as copies have them."""
    root = tmp_path_factory.mktemp("isic2019")
    names = pd.read_csv(REAL / METADATA, usecols=["image"])["image"]
    write_images(root / FOLDER / FOLDER, names)
    return root


@needs_real
def test_real_counts(real: Path) -> None:
    found = table(real, tables=str(REAL), further_attributes=["age", "site"])
    assert len(found.rows) == found.rows["image_id"].nunique() == 25_331
    assert found.rows["label"].value_counts().to_dict() == COUNTS
    assert found.rows["group"].value_counts().to_dict() == {"male": 13_286, "female": 11_661}
    missing = {"group": 384, "group:age": 437, "group:site": 2_631}
    assert {column: found.rows[column].isna().sum() for column in missing} == missing
    assert found.rows["group:age"][found.rows["group"].isna()].isna().all()
    assert found.rows["image_id"].str.endswith("_downsampled").sum() == 2_074
    assert found.rows["patient_id"].str.startswith("image:").sum() == 2_084
    assert found.warnings == ()


@needs_real
def test_real_split_by_lesion_and_as_published(real: Path) -> None:
    rows = table(real, tables=str(REAL)).rows
    patients = rows["patient_id"].tolist()
    by_lesion = assign_splits(patients, rows["label"].tolist(), config(real).split)
    assert not straddling_patients(patients, by_lesion)
    shares = pd.crosstab(rows["label"].to_numpy(), by_lesion, normalize="index").to_numpy()
    np.testing.assert_allclose(shares, np.tile([0.6, 0.2, 0.2], (8, 1)), atol=0.01)

    published = table(real, tables=str(REAL), split="paper").rows
    assert len(published) == 24_840 + 54  # the authors' rows and those they have not
    assert published["group"].notna().all()
    sizes = published["split"].value_counts().to_dict()
    assert sizes == {"train": 14_936, "validation": 4_979, "test": 4_979}
    parts = pd.crosstab(published["label"], published["split"], normalize="index")
    np.testing.assert_allclose(parts["train"], 0.6, atol=0.003)
    split_N = splits_of_column(published["split"].tolist(), "test")
    assert len(straddling_patients(published["patient_id"].tolist(), split_N)) > 3_000


@needs_real
@needs("HAM10000_metadata.csv", "HAM10000_images_part_1.tar")
def test_real_images_are_those_of_ham10000(tmp_path: Path) -> None:
    with tarfile.open(REAL / "HAM10000_images_part_1.tar") as archive:
        members = [member for member in archive if member.isfile()][:60]
        archive.extractall(tmp_path, members=members, filter="data")
    cache = tmp_path / "cache"
    common = {
        "root": str(tmp_path), "tables": str(REAL), "missing_images": "skip", "image_size": 32,
        "aspect": 4 / 3, "attribute": "age",
    }  # fmt: skip
    ham = load_dataset(parse_data({"name": "ham10000", **common}), cache_dir=cache)
    isic = load_dataset(parse_data({"name": "isic2019", **common}), cache_dir=cache)
    assert len(ham.label_N) == len(isic.label_N) == 60
    np.testing.assert_array_equal(ham.images_NHWC, isic.images_NHWC)
    assert ham.image_id_N.tolist() == isic.image_id_N.tolist()
    assert ham.patient_id_N.tolist() == isic.patient_id_N.tolist()
    meanings = {"akiec": {"AK", "SCC"}} | {
        name.lower(): {name} for name in ("BCC", "BKL", "DF", "MEL", "NV", "VASC")
    }
    for ours, theirs in zip(ham.label_N, isic.label_N, strict=True):
        assert isic.classes[theirs] in meanings[ham.classes[ours]]
    assert ham.group_N.tolist() == isic.group_N.tolist()

    seen = ham.split_N != TEST
    lines = overlap_warnings(ham, isic)
    assert len(lines) == 2
    assert f"leak: {seen.sum()} images outside the test split of ham10000 are also in" in lines[0]
    lesions = set(ham.patient_id_N[seen])
    num = sum(patient in lesions for patient in isic.patient_id_N)
    assert f"{len(lesions)} patients or lesions" in lines[1]
    assert f"isic2019 ({num} of its 60 images)" in lines[1]


def test_nothing_in_common_is_no_leak(tmp_path: Path) -> None:
    write_set(tmp_path)
    ours = load_dataset(config(tmp_path, image_size=8), cache_dir=tmp_path / "cache")
    other = {"name": "synthetic", "num_images": 30, "image_size": 8}
    theirs = load_dataset(parse_data(other), cache_dir=tmp_path / "cache")
    assert overlap_warnings(ours, theirs) == ()
