import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.ham10000 import CLASSES, HAM10000
from trainables.data.inspect import inspect_dataset
from trainables.data.limit import limited_rows
from trainables.data.load import load_dataset, parse_data
from trainables.data.splits import assign_splits
from trainables.errors import UserError

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
COUNTS = {"nv": 4725, "mel": 774, "bkl": 760, "bcc": 356, "akiec": 238, "vasc": 103, "df": 84}

needs_real = pytest.mark.skipif(
    not (SHARED / "HAM10000_metadata.csv").exists(),
    reason="the HAM10000 files are not beside the repository (../shared/data)",
)


def config(root: Path, **fields: object):
    return parse_data({"name": "ham10000", "root": str(root), **fields})


def write_layout(root: Path, layout: str = "parts") -> pd.DataFrame:
    """Fourteen images: two lesions a class, one of them of unknown sex, age and site."""
    lines = []
    for number in range(14):
        unknown = number == 13
        lines.append(
            {
                "lesion_id": f"HAM_{number:07d}",
                "image_id": f"ISIC_{number:07d}",
                "dx": CLASSES[number // 2],
                "dx_type": "histo",
                "age": "" if unknown else str(59.0 + number % 2),
                "sex": "unknown" if unknown else ["male", "female"][number % 2],
                "localization": "unknown" if unknown else ["back", "abdomen"][number % 2],
            }
        )
        part = f"HAM10000_images_part_{number % 2 + 1}"
        folder = {
            "parts": root / part,
            "nested": root / part / part,
            "flat": root / "images",
            "root": root,
        }[layout]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (40, 30), (number * 10, 0, 0))
        image.save(folder / f"ISIC_{number:07d}.jpg", quality=100)
    rows = pd.DataFrame(lines)
    rows.to_csv(root / "HAM10000_metadata.csv", index=False)
    return rows


@pytest.mark.parametrize("layout", ["parts", "nested", "flat", "root"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    write_layout(tmp_path, layout)
    dataset = load_dataset(config(tmp_path, image_size=12), cache_dir=tmp_path / "cache")
    assert dataset.images_NHWC.shape == (14, 12, 16, 3)
    np.testing.assert_allclose(dataset.images_NHWC[:, 5, 5, 0], np.arange(14) * 10, atol=2)
    assert dataset.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert dataset.groups == ("female", "male")
    assert dataset.group_N.tolist() == [1, 0] * 6 + [1, -1]
    assert dataset.malignant == ("akiec", "bcc", "mel")
    assert dataset.patient_id_N[3] == "HAM_0000003"


def test_attributes(tmp_path: Path) -> None:
    write_layout(tmp_path)
    age = HAM10000.table(config(tmp_path, attribute="age"))
    assert age.groups == ("under_60", "60_and_over")
    assert age.rows["group"].tolist() == ["under_60", "60_and_over"] * 6 + ["under_60", None]
    younger = HAM10000.table(config(tmp_path, attribute="age", age_threshold=59))
    assert set(younger.rows["group"].dropna()) == {"59_and_over"}
    site = HAM10000.table(config(tmp_path, attribute="localization"))
    assert site.groups == ("abdomen", "back")
    assert site.rows["group"].tolist() == ["back", "abdomen"] * 6 + ["back", None]


def test_missing_images_and_damaged_ones_in_one_error(tmp_path: Path) -> None:
    write_layout(tmp_path)
    (tmp_path / "HAM10000_images_part_1" / "ISIC_0000004.jpg").unlink()
    (tmp_path / "HAM10000_images_part_2" / "ISIC_0000005.jpg").write_bytes(b"\xff\xd8junk")
    with pytest.raises(UserError, match=r"2 of 14.*ISIC_0000004\.jpg: missing.*ISIC_0000005"):
        load_dataset(config(tmp_path), cache_dir=tmp_path / "cache")
    with pytest.raises(UserError, match=r"1 of 13.*ISIC_0000005"):
        load_dataset(config(tmp_path, missing_images="skip"), cache_dir=tmp_path / "cache")
    table = HAM10000.table(config(tmp_path, missing_images="skip"))
    assert len(table.rows) == 13
    assert "1 of 14 images" in table.warnings[0]
    assert "ISIC_0000004" in table.warnings[0]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        HAM10000.table(config(tmp_path / "none"))
    with pytest.raises(UserError, match=r"has no HAM10000_metadata\.csv"):
        HAM10000.table(config(tmp_path))
    rows = write_layout(tmp_path)
    rows.rename(columns={"sex": "sexx"}).to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    with pytest.raises(UserError, match="no column 'sex', did you mean 'sexx'"):
        HAM10000.table(config(tmp_path))
    rows.assign(dx="wart").to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    with pytest.raises(UserError, match="unknown dx: 'wart'"):
        HAM10000.table(config(tmp_path))
    rows.to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    shutil.rmtree(tmp_path / "HAM10000_images_part_1")
    shutil.rmtree(tmp_path / "HAM10000_images_part_2")
    (tmp_path / "HAM10000_images_part_1.zip").touch()
    with pytest.raises(UserError, match=r"no images.*part_1\.zip has to be unpacked first"):
        HAM10000.table(config(tmp_path))
    with pytest.raises(UserError, match=r"data\.attribute.*'age' or 'localization' but got 'sx'"):
        config(tmp_path, attribute="sx")


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """The whole real metadata and 48 real images of part 1."""
    shutil.copy(SHARED / "HAM10000_metadata.csv", tmp_path)
    with tarfile.open(SHARED / "HAM10000_images_part_1.tar") as archive:
        members = [member for member in archive if member.isfile()][:48]
        archive.extractall(tmp_path, members=members, filter="data")
    return tmp_path


@needs_real
def test_real_images(real: Path) -> None:
    dataset = load_dataset(
        config(real, missing_images="skip", image_size=64), cache_dir=real / "cache"
    )
    assert dataset.images_NHWC.shape == (48, 64, 85, 3)
    assert any("6992 of 7040 images" in line for line in dataset.warnings)
    # an independent decoding of the same 4:3 files, whose frame needs almost no crop
    for name, image_HWC in zip(dataset.image_id_N[:8], dataset.images_NHWC, strict=False):
        photo = Image.open(real / "HAM10000_images_part_1" / f"{name}.jpg")
        expected = np.asarray(photo.resize((85, 64), Image.Resampling.BILINEAR), dtype=float)
        assert abs(image_HWC - expected).mean() < 1.5
    assert inspect_dataset(dataset)["num_images"] == 48


@needs_real
def test_real_table_has_the_published_counts(real: Path) -> None:
    table = HAM10000.table(config(real))
    assert table.rows["label"].value_counts().to_dict() == COUNTS
    assert table.rows["group"].value_counts().to_dict() == {"male": 3800, "female": 3196}
    assert table.rows["group"].isna().sum() == 44
    assert table.rows["patient_id"].nunique() == 5230
    assert HAM10000.table(config(real, attribute="age")).rows["group"].isna().sum() == 43


@needs_real
@pytest.mark.parametrize("seed", [0, 1])
def test_real_split_is_stratified_by_lesion(real: Path, seed: int) -> None:
    cut = config(real, split={"seed": seed}).split
    rows = HAM10000.table(config(real)).rows
    rows["split"] = assign_splits(rows["patient_id"].tolist(), rows["label"].tolist(), cut)
    assert (rows.groupby("patient_id")["split"].nunique() == 1).all()
    shares = pd.crosstab(rows["label"], rows["split"], normalize="index").to_numpy()
    np.testing.assert_allclose(shares, np.tile([0.6, 0.2, 0.2], (7, 1)), atol=0.03)


@needs_real
def test_real_small_part_has_all_classes_in_all_splits(real: Path) -> None:
    rows = HAM10000.table(config(real)).rows
    small = rows.iloc[limited_rows(rows["patient_id"].tolist(), rows["label"].tolist(), 200)]
    assert 195 <= len(small) <= 200
    cut = config(real).split
    split_N = assign_splits(small["patient_id"].tolist(), small["label"].tolist(), cut)
    assert (pd.crosstab(small["label"].to_numpy(), split_N).to_numpy() > 0).all()
    assert pd.crosstab(small["label"].to_numpy(), split_N).shape == (7, 3)
