import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from real_tables import REAL, needs, write_images
from sklearn.model_selection import train_test_split

from trainables.data.base import Table
from trainables.data.fitzpatrick17k import NOT_IN_THE_PUBLISHED_SPLIT, Fitzpatrick17k
from trainables.data.image_lists import with_lists
from trainables.data.load import load_dataset, parse_data
from trainables.data.splits import assign_splits
from trainables.errors import UserError

CSV = "fitzpatrick17k.csv"
needs_real = needs(CSV)

CONDITIONS = {  # condition -> nine, three
    "acne": ("inflammatory", "non-neoplastic"),
    "melanoma": ("malignant melanoma", "malignant"),
    "lentigo maligna": ("malignant melanoma", "malignant"),
    "nevus": ("benign melanocyte", "benign"),
}
LAYOUTS = ("data/finalfitz17k", "data/finalfitz17k/finalfitz17k", "dataset_images", ".")


def md5(number: int) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()


def rows(num: int = 48) -> pd.DataFrame:
    """Types run -1, 1, ..., 6 and the second annotator is one type lighter."""
    lines = []
    for number in range(num):
        label = list(CONDITIONS)[number % 4]
        kind = number % 7
        lines.append(
            {
                "md5hash": md5(number),
                "fitzpatrick_scale": str(kind or -1),
                "fitzpatrick_centaur": str(max(kind - 1, 1) if number % 5 else -1),
                "label": label,
                "nine_partition_label": CONDITIONS[label][0],
                "three_partition_label": CONDITIONS[label][1],
                "qc": "",
                "url": f"http://atlas/{number}" if number % 6 else "",
            }
        )
    return pd.DataFrame(lines)


def write_set(root: Path, frame: pd.DataFrame, layout: str = LAYOUTS[0]) -> None:
    (root / layout).mkdir(parents=True, exist_ok=True)
    frame.to_csv(root / CSV, index=False)
    for number, name in enumerate(frame.iloc[:, 0]):
        image = Image.new("RGB", (30, 20), (4 * number, 0, 0))
        image.save(root / layout / f"{name}.jpg", quality=100)


def config(root: Path, **fields: object):
    return parse_data({"name": "fitzpatrick17k", "root": str(root), **fields})


def table(root: Path, **fields: object) -> Table:
    return Fitzpatrick17k.table(config(root, **fields))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("release", ["today's", "older"])
def test_layouts_and_both_releases(tmp_path: Path, layout: str, release: str) -> None:
    frame = rows()
    if release == "older":
        frame = frame.drop(columns="fitzpatrick_centaur").rename(
            columns={"md5hash": "hasher", "fitzpatrick_scale": "fitzpatrick"}
        )
    write_set(tmp_path, frame, layout)
    dataset = load_dataset(config(tmp_path, image_size=10), cache_dir=tmp_path / "cache")
    assert dataset.images_NHWC.shape == (48, 10, 10, 3)
    number_of = {md5(number): number for number in range(48)}
    for name, image_HWC, label, group in zip(
        dataset.image_id_N, dataset.images_NHWC, dataset.label_N, dataset.group_N, strict=True
    ):
        number = number_of[name]
        assert abs(int(image_HWC[5, 5, 0]) - 4 * number) <= 2
        assert dataset.classes[label] == list(CONDITIONS)[number % 4]
        assert group == (-1 if number % 7 == 0 else int(number % 7 > 3))
    assert dataset.groups == ("light", "dark")
    assert dataset.classes == ("acne", "lentigo maligna", "melanoma", "nevus")
    nine = ("inflammatory", "malignant melanoma", "malignant melanoma", "benign melanocyte")
    assert dataset.coarse == nine
    assert dataset.malignant == ("lentigo maligna", "melanoma")
    assert any("7 of 48 images have no known skin_type" in line for line in dataset.warnings)
    assert any("no patient column" in line for line in dataset.warnings)


def test_coarser_classes(tmp_path: Path) -> None:
    write_set(tmp_path, rows())
    nine = table(tmp_path, num_classes=9)
    assert nine.classes == ("benign melanocyte", "inflammatory", "malignant melanoma")
    assert nine.coarse == ("benign", "non-neoplastic", "malignant")
    assert nine.malignant == ("malignant melanoma",)
    three = table(tmp_path, num_classes=3)
    assert three.classes == ("benign", "malignant", "non-neoplastic")
    assert (three.coarse, three.malignant) == ((), ("malignant",))
    assert three.rows["label"].value_counts()["malignant"] == 24
    with pytest.raises(UserError, match=r"data\.num_classes.*114, 9 or 3 but got 5"):
        config(tmp_path, num_classes=5)


def test_bins_and_unknown_types(tmp_path: Path) -> None:
    frame = rows()
    write_set(tmp_path, frame)
    types = frame["fitzpatrick_scale"].astype(int)
    six = table(tmp_path, bins="six")
    assert six.groups == ("I", "II", "III", "IV", "V", "VI")
    number = {name: position for position, name in enumerate(six.groups, 1)}
    assert [number.get(group, -1) for group in six.rows["group"]] == types.tolist()
    assert table(tmp_path, attribute="six_types").rows["group"].equals(six.rows["group"])
    ends = table(tmp_path, bins={"I-II": [1, 2], "VI": [6]})
    assert ends.groups == ("I-II", "VI")
    assert ends.rows["group"].isna().sum() == types.isin([-1, 3, 4, 5]).sum()
    published = table(tmp_path, unknown_type="dark").rows["group"]
    assert (published == "dark").sum() == types.isin([-1, 4, 5, 6]).sum()
    for bins in ("three", {"a": [1]}, {"a": [1], "b": [1, 2]}, {"a": [1], "b": [7]}, {"a": []}):
        with pytest.raises(UserError, match=r"data\.bins"):
            config(tmp_path, bins=bins)
    with pytest.raises(UserError, match="must be one of drop, light, dark but got 'darker'"):
        config(tmp_path, unknown_type="darker")


def test_sources_of_the_types(tmp_path: Path) -> None:
    frame = rows()
    write_set(tmp_path, frame)
    found = table(tmp_path, further_attributes=["scale", "centaur", "agree"]).rows
    for number, row in enumerate(found.itertuples()):
        first = int(frame["fitzpatrick_scale"][number])
        second = int(frame["fitzpatrick_centaur"][number])
        one = None if first < 0 else "dark" if first > 3 else "light"
        two = None if second < 0 else "dark" if second > 3 else "light"
        assert (row.group, found["group:centaur"][number]) == (one, two)
        assert found["group:agree"][number] == (one if one == two else None)
    for source in ("scale", "centaur", "agree"):
        own = table(tmp_path, attribute_source=source).rows["group"]
        assert own.tolist() == found[f"group:{source}"].tolist()
    published = table(tmp_path, attribute_source="agree", unknown_type="dark").rows["group"]
    both = (frame["fitzpatrick_scale"] == "-1") & (frame["fitzpatrick_centaur"] == "-1")
    assert (published[both] == "dark").all()
    write_set(tmp_path, frame.drop(columns="fitzpatrick_centaur"))
    with pytest.raises(UserError, match=r"no column 'fitzpatrick_centaur': only the source scale"):
        table(tmp_path, attribute_source="agree")


def test_rows_of_one_url_stay_together(tmp_path: Path) -> None:
    frame = rows()
    frame.loc[[5, 9, 13], "url"] = "http://atlas/same"
    write_set(tmp_path, frame)
    patients = table(tmp_path).rows["patient_id"]
    same = min(md5(5), md5(9), md5(13))
    expected = [same if number in (5, 9, 13) else md5(number) for number in range(48)]
    assert patients.tolist() == expected


def test_a_repeated_row_is_left_out_and_a_contradiction_refused(tmp_path: Path) -> None:
    frame = rows()
    again = frame.iloc[[3]]
    write_set(tmp_path, frame)
    pd.concat([frame, again]).to_csv(tmp_path / CSV, index=False)
    found = table(tmp_path)
    assert len(found.rows) == 48
    assert "1 rows repeat another row's image" in found.warnings[0]
    pd.concat([frame, again.assign(fitzpatrick_scale="6")]).to_csv(tmp_path / CSV, index=False)
    with pytest.raises(UserError, match=f"twice with different values: {md5(3)}"):
        table(tmp_path)


def test_mistakes_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        table(tmp_path / "none")
    with pytest.raises(UserError, match=r"has no fitzpatrick17k\.csv"):
        table(tmp_path)
    frame = rows()
    write_set(tmp_path, frame)
    frame.loc[2, "fitzpatrick_scale"] = "7"
    frame.loc[3, "three_partition_label"] = "malignant"
    frame.to_csv(tmp_path / CSV, index=False)
    with pytest.raises(UserError, match=r"skin type: '7'; 'nevus' has more than one three"):
        table(tmp_path)
    frame.rename(columns={"label": "lable"}).to_csv(tmp_path / CSV, index=False)
    with pytest.raises(UserError, match="no column 'label', did you mean 'lable'"):
        table(tmp_path)
    with pytest.raises(UserError, match=r"data\.split: .*own fractions and seed"):
        config(tmp_path, split={"by": "paper", "seed": 1})


def test_missing_and_damaged_images_in_one_error(tmp_path: Path) -> None:
    write_set(tmp_path, rows())
    folder = tmp_path / LAYOUTS[0]
    (folder / f"{md5(4)}.jpg").unlink()
    (folder / f"{md5(5)}.jpg").write_bytes(b"\xff\xd8junk")
    with pytest.raises(UserError, match="2 of 48 images") as caught:
        load_dataset(config(tmp_path), cache_dir=tmp_path / "cache")
    assert f"{LAYOUTS[0]}/{md5(4)}.jpg: missing" in str(caught.value)
    assert f"{md5(5)}.jpg: not an image" in str(caught.value)
    skipped = table(tmp_path, missing_images="skip")
    assert len(skipped.rows) == 47
    assert any("1 of 48 images of the table are not below" in line for line in skipped.warnings)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated image for every row of the real table, in the packed archive's layout."""
    root = tmp_path_factory.mktemp("fitzpatrick17k")
    names = pd.read_csv(REAL / CSV, usecols=["md5hash"])["md5hash"]
    write_images(root / "data/finalfitz17k", names)
    return root


def real_table(root: Path, **fields: object) -> Table:
    return table(root, tables=str(REAL), **fields)


@needs_real
def test_real_counts(real: Path) -> None:
    found = real_table(real, attribute="six_types", further_attributes=["skin_type"])
    assert len(found.rows) == found.rows["image_id"].nunique() == 16_577
    labels = found.rows["label"].value_counts()
    assert (len(labels), labels.min(), labels.max()) == (114, 53, 653)
    counts = {"I": 2947, "II": 4808, "III": 3308, "IV": 2781, "V": 1533, "VI": 635}
    assert found.rows["group"].value_counts().to_dict() == counts
    assert found.rows["group"].isna().sum() == 565
    by_tone = found.rows["group:skin_type"].value_counts().to_dict()
    assert by_tone == {"light": 11_063, "dark": 4_949}
    assert len(set(found.coarse)) == 9
    assert len(real_table(real, num_classes=9).classes) == 9
    assert real_table(real, num_classes=3).classes == ("benign", "malignant", "non-neoplastic")
    assert found.rows["label"].isin(found.malignant).sum() == 2263


@needs_real
def test_real_annotators_agree_on_48_percent(real: Path) -> None:
    further = ["scale", "agree"]
    found = real_table(
        real, attribute="six_types", attribute_source="agree", further_attributes=further
    )
    frame = pd.read_csv(REAL / CSV)
    both = (frame["fitzpatrick_scale"] > 0) & (frame["fitzpatrick_centaur"] > 0)
    same = both & (frame["fitzpatrick_scale"] == frame["fitzpatrick_centaur"])
    assert found.rows["group"].notna().sum() == same.sum() == 7293
    assert same.sum() / both.sum() == pytest.approx(0.48, abs=0.005)
    dark = found.rows["group:scale"] == "dark"
    second_light = dark & both & (frame["fitzpatrick_centaur"] < 4)
    assert second_light.sum() / (dark & both).sum() == pytest.approx(0.33, abs=0.005)
    assert (found.rows["group:agree"][dark] == "dark").sum() == (dark & both & ~second_light).sum()


@needs_real
def test_real_published_split(real: Path) -> None:
    found = real_table(real, split="paper", unknown_type="dark")
    rows = found.rows
    sizes = rows["split"].value_counts().to_dict()
    assert sizes == {"train": 13_253, "validation": 1_657, "test": 1_657}
    assert not set(NOT_IN_THE_PUBLISHED_SPLIT) & set(rows["image_id"])
    # the rule, written out on its own
    frame = pd.read_csv(REAL / CSV)
    frame = frame[~frame["md5hash"].isin(NOT_IN_THE_PUBLISHED_SPLIT)]
    low = frame["label"].astype("category").cat.codes
    _, held = train_test_split(frame, test_size=0.2, random_state=4242, stratify=low)
    validation, test = train_test_split(
        held, test_size=0.5, random_state=4242, stratify=low[held.index]
    )
    for name, part in (("validation", validation), ("test", test)):
        assert set(rows["image_id"][rows["split"] == name]) == set(part["md5hash"])
    # a library that draws otherwise would move these
    names = "\n".join(sorted(rows["image_id"][rows["split"] == "test"]))
    assert hashlib.sha256(names.encode()).hexdigest().startswith("cf3d4124a41d77c3")
    # what was measured on the split files in use: classes with no dark image, and with 2 at most
    held_N = rows["split"] == "test"
    for counts, dark in (
        ((16, 46), rows["group"] == "dark"),
        ((20, 52), real_table(real, split="paper").rows["group"] == "dark"),
    ):
        per_class = pd.crosstab(rows["label"][held_N], dark[held_N])[True]
        assert ((per_class == 0).sum(), (per_class <= 2).sum()) == counts
        assert per_class.median() == 3
    assert real_table(real, split="paper", num_classes=9).rows["split"].equals(rows["split"])


@needs_real
def test_real_default_split_keeps_groups_together(real: Path, tmp_path: Path) -> None:
    names = pd.read_csv(REAL / CSV)["md5hash"]
    groups = names.sample(600, random_state=0).to_numpy().reshape(200, 3)
    pairs = pd.DataFrame({"image_id": groups.ravel(), "group": np.repeat(np.arange(200), 3)})
    pairs.to_csv(tmp_path / "duplicates.csv", index=False)
    chosen = config(
        real, tables=str(REAL), split="duplicates", duplicates=str(tmp_path / "duplicates.csv")
    )
    found = with_lists(Fitzpatrick17k.table(chosen), chosen)
    ids, labels = found.rows["image_id"].tolist(), found.rows["label"].tolist()
    num_split = []
    for unit_N in (found.rows["patient_id"].tolist(), ids):
        split_N = assign_splits(unit_N, labels, chosen.split)
        np.testing.assert_allclose(np.bincount(split_N) / len(ids), [0.6, 0.2, 0.2], atol=0.01)
        split_of = dict(zip(ids, split_N.tolist(), strict=True))
        num_split.append(sum(len({split_of[name] for name in group}) > 1 for group in groups))
    assert num_split[0] == 0 < 100 < num_split[1]
    assert any("600 images in 200 groups are kept together" in line for line in found.warnings)
    assert not any("data.duplicates is not given" in line for line in found.warnings)
