from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.base import Table
from trainables.data.inspect import inspect_dataset
from trainables.data.load import load_dataset, parse_data
from trainables.data.pad_ufes_20 import CLASSES, PADUFES20
from trainables.data.splits import straddling_patients
from trainables.errors import UserError

HEADER = (
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,"
    "skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,"
    "diameter_1,diameter_2,diagnostic,itch,grew,hurt,changed,bleed,elevation,img_id,biopsed"
)
LAYOUTS = ("images/imgs_part_{}", "images/imgs_part_{0}/imgs_part_{0}", "imgs_part_{}", ".")


def metadata(num: int = 36) -> pd.DataFrame:
    """The published columns and ways of writing; two images a patient, every sixth unknown."""
    lines = []
    for number in range(num):
        unknown = number % 6 == 5
        lines.append(
            dict.fromkeys(HEADER.split(","), "")
            | {
                "patient_id": f"PAT_{number // 2}",
                "lesion_id": str(number),
                "age": str(40 + number),
                "gender": "" if unknown else ("FEMALE", "MALE")[number % 2],
                "fitspatrick": "" if unknown else f"{number % 6 + 1}.0",
                "diagnostic": CLASSES[number // 2 % 6],
                "itch": "UNK",
                "img_id": f"PAT_{number // 2}_{number}_{number}.png",
            }
        )
    return pd.DataFrame(lines)


def write_set(root: Path, layout: str = LAYOUTS[0]) -> pd.DataFrame:
    rows = metadata()
    rows.to_csv(root / "metadata.csv", index=False)
    for number, name in enumerate(rows["img_id"]):
        folder = root / layout.format(number % 3 + 1)
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGBA", (20, 20), (5 * number, 0, 0, 255))
        image.paste((0, 0, 0, 0), (0, 0, 10, 20))  # the left half is transparent black
        image.save(folder / name)
    return rows


def config(root: Path, **fields: object):
    return parse_data({"name": "pad_ufes_20", "root": str(root), **fields})


def table(root: Path, **fields: object) -> Table:
    return PADUFES20.table(config(root, **fields))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_transparency(tmp_path: Path, layout: str) -> None:
    rows = write_set(tmp_path, layout)
    dataset = load_dataset(config(tmp_path, image_size=10), cache_dir=tmp_path / "cache")
    by_name = dict(zip(dataset.image_id_N.tolist(), range(36), strict=True))
    for number, line in enumerate(rows.itertuples()):
        row = by_name[line.img_id.removesuffix(".png")]
        assert dataset.images_NHWC[row, 5, 8].tolist() == [5 * number, 0, 0]
        assert dataset.images_NHWC[row, 5, 1].tolist() == [255, 255, 255]  # over white
        assert dataset.classes[dataset.label_N[row]] == line.diagnostic
        assert dataset.patient_id_N[row] == line.patient_id
        assert dataset.group_N[row] == (-1 if number % 6 == 5 else int(number % 6 >= 3))
    assert dataset.groups == ("light", "dark")
    assert dataset.malignant == ("BCC", "MEL", "SCC")
    assert not straddling_patients(dataset.patient_id_N.tolist(), dataset.split_N)
    assert inspect_dataset(dataset)["num_unknown_group"] == 6


def test_attributes(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    further = ["six_types", "age", "gender+age"]
    found = table(tmp_path, attribute="gender", further_attributes=further, age_threshold=50)
    genders = [value.lower() or None for value in rows["gender"]]
    ages = ["50_and_over" if int(age) >= 50 else "under_50" for age in rows["age"]]
    assert found.groups == ("female", "male")
    assert found.rows["group"].tolist() == genders
    assert found.rows["group:age"].tolist() == ages
    roman = {"": None, "1.0": "I", "2.0": "II", "3.0": "III", "4.0": "IV", "5.0": "V"}
    types = [roman[value] for value in rows["fitspatrick"]]
    assert found.rows["group:six_types"].tolist() == types
    assert found.further_groups["six_types"] == ("I", "II", "III", "IV", "V", "VI")
    both = [gender and f"{gender}+{age}" for gender, age in zip(genders, ages, strict=True)]
    assert found.rows["group:gender+age"].tolist() == both
    ends = table(tmp_path, bins={"fair": [1, 2], "brown": [4, 5]})
    assert ends.groups == ("fair", "brown")
    assert ends.rows["group"].value_counts().to_dict() == {"fair": 12, "brown": 12}


def test_mistakes_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no metadata\.csv"):
        table(tmp_path)
    rows = write_set(tmp_path)
    rows.loc[0, "diagnostic"], rows.loc[1, "patient_id"] = "WART", ""
    rows.loc[2, "fitspatrick"], rows.loc[3, "gender"], rows.loc[4, "age"] = "9", "WOMAN", "old"
    rows.to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(UserError) as caught:
        table(tmp_path, further_attributes=["gender", "age"])
    for part in (
        "unknown diagnostic: 'WART'; known: ACK, BCC, MEL, NEV, SCC, SEK",
        "1 images without a patient_id: PAT_0_1_1.png",
        "unknown skin type: '9'",
        "unknown gender: 'woman'",
        "unknown age: 'old'",
        "metadata.csv)",
    ):
        assert part in str(caught.value)
    rows.rename(columns={"fitspatrick": "fitzpatrick"}).to_csv(
        tmp_path / "metadata.csv", index=False
    )
    with pytest.raises(UserError, match="no column 'fitspatrick', did you mean 'fitzpatrick'"):
        table(tmp_path)


def test_missing_and_damaged_images_in_one_error(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "images/imgs_part_1/PAT_0_0_0.png").unlink()
    (tmp_path / "images/imgs_part_2/PAT_0_1_1.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"2 of 36.*PAT_0_0_0\.png: missing.*PAT_0_1_1\.png"):
        load_dataset(config(tmp_path), cache_dir=tmp_path / "cache")
    assert len(table(tmp_path, missing_images="skip").rows) == 35


def test_packed_images_are_pointed_out(tmp_path: Path) -> None:
    metadata().to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "imgs_part_1.zip").touch()
    with pytest.raises(UserError, match=r"imgs_part_1/PAT_0_0_0.*imgs_part_1\.zip has to be unp"):
        table(tmp_path)


def test_the_table_s_order_changes_nothing(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    fields = {"image_size": 8, "further_attributes": ["age"]}
    first = load_dataset(config(tmp_path, **fields), cache_dir=tmp_path / "cache")
    rows.iloc[::-1].to_csv(tmp_path / "metadata.csv", index=False)
    second = load_dataset(config(tmp_path, **fields), cache_dir=tmp_path / "cache")
    assert (first.fingerprint, first.group_digest) == (second.fingerprint, second.group_digest)
    np.testing.assert_array_equal(first.further["age"].group_N, second.further["age"].group_N)
