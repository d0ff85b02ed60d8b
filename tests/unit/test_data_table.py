from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.check_table import checked_table
from trainables.data.load import load_dataset, parse_data
from trainables.data.table import TableFile
from trainables.errors import UserError


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(8)],
            "label": [0, 1, 2, 10] * 2,
            "tone": [1, 2, 3, 4, 5, 6, -1, 2],
            "sex": ["f", "m", None, "f", "m", "f", "unknown", "m"],
            "lesion": ["a", "a", "b", None, "c", "c", "d", ""],
        }
    )


def table(folder: Path, frame: pd.DataFrame, kind: str = "csv", **fields: object):
    path = folder / f"t.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    else:
        frame.to_parquet(path)
    config = parse_data({"name": "table", "path": str(path), "attribute": "sex", **fields})
    return TableFile.table(config)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_formats_mean_the_same(tmp_path: Path, kind: str) -> None:
    found = table(tmp_path, rows(), kind, patient="lesion")
    assert found.classes == ("0", "1", "2", "10")
    assert found.groups == ("f", "m")
    assert found.rows["label"].tolist() == ["0", "1", "2", "10"] * 2
    assert found.rows["group"].tolist() == ["f", "m", None, "f", "m", "f", None, "m"]
    assert found.rows["image_id"].tolist() == list("01234567")
    patients = ["a", "a", "b", "image:3", "c", "c", "d", "image:7"]
    assert found.rows["patient_id"].tolist() == patients
    assert found.rows["path"][0] == str(tmp_path / "0.png")
    assert found.warnings == ("2 rows have no lesion: each is its own patient",)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_threshold_and_unknown(tmp_path: Path, kind: str) -> None:
    frame = rows()
    frame["tone"] = frame["tone"].astype(float)
    found = table(tmp_path, frame, kind, attribute="tone", threshold=4)
    low, high = "below_4", "at_least_4"
    assert found.groups == (low, high)
    assert found.rows["group"].tolist() == [low, low, low, high, high, high, None, low]
    whole = table(tmp_path, frame, kind, attribute="tone")
    assert whole.groups == ("1", "2", "3", "4", "5", "6")
    assert whole.rows["group"].tolist() == ["1", "2", "3", "4", "5", "6", None, "2"]
    assert any("images count as independent" in line for line in found.warnings)


def test_image_ids_keep_folders_where_names_repeat(tmp_path: Path) -> None:
    frame = rows().assign(path=[f"{n % 2}/{n // 2}.png" for n in range(8)])
    assert table(tmp_path, frame).rows["image_id"][3] == "1/1.png"


def test_values_that_differ_in_case_or_white_space_only_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": [f"{number:02d}.png" for number in range(12)],
            "label": ["nv", "NV", "mel", "mel"] * 3,
            "sex": ["Male", "male", "female", "female ", "male", "female"] * 2,
            "site": ["arm", "leg"] * 6,
        }
    )
    further = {"further_attributes": ["site"], "attribute": "sex", "patient": "path"}
    found = table(tmp_path, frame, **further)
    assert found.warnings == (
        "values of 'sex' that differ in surrounding white space only are read as one: "
        "'female' (4 images) and 'female ' (2 images)",
    )
    config = parse_data({"name": "table", "path": str(tmp_path / "t.csv"), **further})
    assert checked_table(found, config).warnings[1:] == (
        "classes that differ in case or white space only are counted apart: "
        "'NV' (3 images) and 'nv' (3 images)",
        "groups of sex that differ in case or white space only are counted apart: "
        "'Male' (2 images) and 'male' (4 images)",
    )
    frame["sex"], frame["label"] = ["male", "female"] * 6, ["nv", "mel"] * 6
    clean = table(tmp_path, frame, **further)
    assert checked_table(clean, config).warnings == ()
    frame["site"] = ["arm", "Arm", "leg"] * 4
    line = checked_table(table(tmp_path, frame, **further), config).warnings[0]
    assert line.startswith("groups of site that differ")


def test_suffix_root_and_image_id(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    frame = rows().assign(path=[f"h{n}" for n in range(8)], name=[f"n{n}" for n in range(8)])
    found = table(tmp_path, frame, suffix=".jpg", root=str(tmp_path / "pictures"), image_id="name")
    assert found.rows["path"][2] == str(tmp_path / "pictures" / "h2.jpg")
    assert found.rows["image_id"][2] == "n2"


def test_bytes_in_parquet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels_NHWC = rng.integers(0, 256, (8, 9, 9, 3), dtype=np.uint8)
    contents = []
    for number, pixels in enumerate(pixels_NHWC):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        contents.append((tmp_path / f"{number}.png").read_bytes())
    plain = rows().assign(path=contents, id=[f"i{n}" for n in range(8)])
    nested = plain.assign(path=[{"bytes": data, "path": "x.png"} for data in contents])
    for frame in (plain, nested):
        frame.to_parquet(tmp_path / "t.parquet")
        fields = {"attribute": "sex", "image_id": "id", "image_size": 9}
        config = parse_data({"name": "table", "path": str(tmp_path / "t.parquet"), **fields})
        dataset = load_dataset(config, cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(dataset.images_NHWC, pixels_NHWC)
    with pytest.raises(UserError, match=r"holds bytes: data\.image_id"):
        table(tmp_path, plain, "parquet")


@pytest.mark.parametrize(
    ("change", "fields", "message"),
    [
        ({}, {"label": "labell"}, "no column 'labell', did you mean 'label'"),
        ({}, {"label": "lab", "patient": "leison"}, "no column 'leison', did you mean 'lesion'"),
        (
            {"label": ["x", "", "y", ""] * 2},
            {},
            "4 rows have no label in column 'label': row 2",
        ),
        ({"path": ["a.png", ""] * 4}, {}, "4 rows have no image"),
        ({"sex": ["f"] * 8}, {}, r"'sex' has 1 known values \(f\), 2 to 50"),
        ({}, {"threshold": 3}, r"data\.threshold: 'sex' must hold finite .* but has 'f', 'm'"),
        ({}, {"root": "/no/such/folder"}, r"data\.root: no such folder: /no/such/folder"),
    ],
)
def test_mistakes(
    tmp_path: Path, change: dict[str, list[str]], fields: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        table(tmp_path, rows().assign(**change), **fields)
    assert "\n" not in str(caught.value)


def test_continuous_attribute_needs_a_threshold(tmp_path: Path) -> None:
    frame = pd.concat([rows()] * 8, ignore_index=True)
    frame = frame.assign(path=[f"{n}.png" for n in range(64)], sex=[n / 7 for n in range(64)])
    with pytest.raises(UserError, match=r"has 64 known values .*is data\.threshold missing\?"):
        table(tmp_path, frame)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text('a,b\n1,2\n3,4,5,6\n"')
    base = {"name": "table", "attribute": "sex"}
    near = parse_data({**base, "path": str(tmp_path / "date.csv")})
    with pytest.raises(UserError, match=r"no such table.*did you mean 'data\.csv'"):
        TableFile.table(near)
    with pytest.raises(UserError, match="cannot read the table"):
        TableFile.table(parse_data({**base, "path": str(tmp_path / "data.csv")}))
    (tmp_path / "data.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="cannot read the table"):
        TableFile.table(parse_data({**base, "path": str(tmp_path / "data.parquet")}))


def test_real_tables_without_images() -> None:
    """Fitzpatrick-17k as published: unknown skin types are -1, images are named by hash."""
    path = Path(__file__).resolve().parents[2] / "../shared/data/fitzpatrick17k.csv"
    if not path.exists():
        pytest.skip("the Fitzpatrick-17k table is not beside the repository")
    config = parse_data(
        {
            "name": "table",
            "path": str(path),
            "image": "md5hash",
            "suffix": ".jpg",
            "attribute": "fitzpatrick_scale",
            "threshold": 4,
        }
    )
    found = TableFile.table(config)
    assert (len(found.rows), len(found.classes)) == (16_577, 114)
    counts = found.rows["group"].value_counts(dropna=False)
    assert counts["below_4"] == 11_063
    assert counts["at_least_4"] == 4_949
    assert found.rows["group"].isna().sum() == 565
