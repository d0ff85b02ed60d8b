import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from trainables.data.base import TEST, TRAIN, VALIDATION, DataConfig, DatasetSource, Table
from trainables.data.inspect import inspect_dataset, render
from trainables.data.load import default_cache_dir, load_dataset, parse_data
from trainables.errors import UserError
from trainables.registry import datasets


class Calls:
    def __init__(self) -> None:
        self.num = 0

    def __call__(self, done: int, total: int) -> None:
        self.num += 1


def write_set(folder: Path, num: int = 60, seed: int = 0) -> pd.DataFrame:
    """A CSV of ``num`` images: 2 a patient, classes a, b and c, sexes f and m and some unknown."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(num):
        name = f"images/i{number:03d}.png"
        pixels = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        patient = number // 2
        lines.append(
            {
                "path": name,
                "label": "abc"[patient % 3],
                "sex": ["f", "m", "m", "f", ""][patient % 5],
                "age": str(20 + patient),
                "patient": f"p{patient}",
                "fold": ["train", "val", "test"][patient // 3 % 3],
            }
        )
    rows = pd.DataFrame(lines)
    rows.to_csv(folder / "t.csv", index=False)
    return rows


def mapping(folder: Path, **fields: object) -> dict[str, object]:
    return {
        "name": "table",
        "path": str(folder / "t.csv"),
        "attribute": "sex",
        "patient": "patient",
        "image_size": 10,
        **fields,
    }


def load(folder: Path, **fields: object):
    return load_dataset(parse_data(mapping(folder, **fields)), cache_dir=folder / "cache")


def test_the_parts_fit_together(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    dataset = load(tmp_path)
    assert dataset.classes == ("a", "b", "c")
    assert dataset.groups == ("f", "m")
    assert dataset.images_NHWC.shape == (60, 10, 10, 3)
    for row, name in enumerate(dataset.image_id_N):
        line = rows[rows["path"] == f"images/{name}.png"].iloc[0]
        assert dataset.classes[dataset.label_N[row]] == line["label"]
        assert dataset.patient_id_N[row] == line["patient"]
        group = dataset.group_N[row]
        assert ("" if group < 0 else dataset.groups[group]) == line["sex"]
        pixels = np.asarray(Image.open(tmp_path / line["path"]))
        np.testing.assert_array_equal(dataset.images_NHWC[row], pixels)
    parts = [dataset.indices(split) for split in (TRAIN, VALIDATION, TEST)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(60))
    owners = [set(dataset.patient_id_N[part]) for part in parts]
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert not owners[1] & owners[2]
    assert (dataset.group_N < 0).sum() == 12
    assert any("12 of 60 images have no known sex" in line for line in dataset.warnings)
    for array in (dataset.images_NHWC, dataset.label_N, dataset.group_N, dataset.split_N):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert type(dataset.images_NHWC) is np.ndarray


def test_second_load_decodes_nothing(tmp_path: Path) -> None:
    write_set(tmp_path)
    config, first, second = parse_data(mapping(tmp_path)), Calls(), Calls()
    cold = load_dataset(config, cache_dir=tmp_path / "cache", progress=first)
    (file,) = (tmp_path / "cache" / "arrays").iterdir()
    written = file.stat().st_mtime_ns
    warm = load_dataset(config, cache_dir=tmp_path / "cache", progress=second)
    assert (first.num, second.num) == (60, 0)
    assert file.stat().st_mtime_ns == written
    assert (warm.fingerprint, warm.group_digest) == (cold.fingerprint, cold.group_digest)
    np.testing.assert_array_equal(warm.images_NHWC, cold.images_NHWC)


def test_what_the_fingerprint_covers(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    base = load(tmp_path)

    rows.iloc[::-1].to_csv(tmp_path / "t.csv", index=False)
    turned = load(tmp_path)
    assert (turned.fingerprint, turned.group_digest) == (base.fingerprint, base.group_digest)

    changed = rows.copy()
    changed.loc[4, "sex"] = "f" if rows.loc[4, "sex"] == "m" else "m"
    changed.to_csv(tmp_path / "t.csv", index=False)
    regrouped = load(tmp_path)
    assert regrouped.fingerprint == base.fingerprint
    assert regrouped.group_digest != base.group_digest

    rows.to_csv(tmp_path / "t.csv", index=False)
    by_age = load(tmp_path, attribute="age", threshold=35)
    assert by_age.fingerprint == base.fingerprint
    assert by_age.group_digest != base.group_digest
    assert by_age.groups == ("below_35", "at_least_35")
    assert (by_age.group_N == 0).sum() == (rows["age"].astype(int) < 35).sum()

    others = [load(tmp_path, split={"seed": 1}), load(tmp_path, image_size=9)]
    relabelled = rows.copy()
    relabelled.loc[0, "label"] = "b"
    relabelled.to_csv(tmp_path / "t.csv", index=False)
    others.append(load(tmp_path))
    rows.to_csv(tmp_path / "t.csv", index=False)
    image = np.array(Image.open(tmp_path / rows.loc[7, "path"]))
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(tmp_path / rows.loc[7, "path"])
    others.append(load(tmp_path))
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_split_by_column_and_its_leak(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    fields = {"split": {"by": "column"}, "split_column": "fold"}
    dataset = load(tmp_path, **fields)
    words = {f"i{n:03d}": fold for n, fold in enumerate(rows["fold"])}
    expected = [["train", "val", "test"].index(words[name]) for name in dataset.image_id_N]
    assert dataset.split_N.tolist() == expected
    rows.loc[0, "fold"] = "test"
    rows.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"1 patients.*p0 \(train, test\)"):
        load(tmp_path, **fields)
    with pytest.raises(UserError, match=r"data\.split_column"):
        load(tmp_path, split={"by": "column"})


def test_split_by_image_warns(tmp_path: Path) -> None:
    write_set(tmp_path)
    dataset = load(tmp_path, split={"by": "image"})
    shared = sum(
        len(set(dataset.split_N[dataset.patient_id_N == patient])) > 1
        for patient in np.unique(dataset.patient_id_N)
    )
    assert shared > 0
    assert any(f"split by image: {shared} patients" in line for line in dataset.warnings)


def test_limit(tmp_path: Path) -> None:
    write_set(tmp_path)
    dataset = load(tmp_path, limit=25)
    assert len(dataset.label_N) == 24  # patients of two images stay whole
    assert np.unique(dataset.patient_id_N, return_counts=True)[1].tolist() == [2] * 12
    assert {(int(s), int(c)) for s, c in zip(dataset.split_N, dataset.label_N, strict=True)} == {
        (split, label) for split in range(3) for label in range(3)
    }


def test_missing_images_are_named(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    (tmp_path / rows.loc[3, "path"]).unlink()
    (tmp_path / rows.loc[5, "path"]).write_text("junk")
    with pytest.raises(UserError, match=r"2 of 60.*i003\.png: missing.*i005\.png: not an image"):
        load(tmp_path)


def test_malignant_names_classes(tmp_path: Path) -> None:
    write_set(tmp_path)
    with pytest.raises(UserError, match=r"data\.malignant: unknown class 'd'"):
        load(tmp_path, malignant=["a", "d"])


def test_default_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "c"))
    assert default_cache_dir() == tmp_path / "c"
    write_set(tmp_path)
    load_dataset(parse_data(mapping(tmp_path)))
    assert len(list((tmp_path / "c" / "arrays").iterdir())) == 1
    monkeypatch.delenv("FATEFRONT_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "fatefront"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "tabel"}, "unknown data set 'tabel', did you mean 'table'"),
        ({"name": None}, r"data\.name must be one of .*ham10000.* but got None"),
        ({"atribute": "x"}, r"^data\.atribute: unknown field, did you mean 'attribute'\?$"),
        ({"image_size": 4}, r"^data\.image_size: .*greater than or equal to 8 but got 4$"),
        ({"split": {"sed": 1}}, r"^data\.split\.sed: unknown field, did you mean 'seed'\?$"),
        ({"split": {"by": "patients"}}, r"data\.split\.by.*'patients', did you mean 'patient'\?"),
        ({"path": None}, r"data\.path: .*string but got None"),
        ({"limit": 0, "aspect": 9}, r"data\.aspect: .* but got 9; data\.limit: .* but got 0"),
    ],
)
def test_parse_errors_are_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_data(mapping(tmp_path, **change))
    assert "\n" not in str(caught.value)


def test_missing_field() -> None:
    with pytest.raises(UserError, match=r"^data\.attribute: missing; data\.path: missing$"):
        parse_data({"name": "table"})


def test_inspection_counts_every_image_once(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    dataset = load(tmp_path)
    report = json.loads(json.dumps(inspect_dataset(dataset), allow_nan=False))
    total = {label: dict.fromkeys(["f", "m", "unknown group"], 0) for label in "abc"}
    for counts in report["counts"].values():
        for label, by_group in counts.items():
            for group, count in by_group.items():
                total[label][group] += count
    for (label, sex), count in rows.groupby(["label", "sex"]).size().items():
        assert total[label][sex or "unknown group"] == count
    assert sum(map(sum, (counts.values() for counts in total.values()))) == 60
    assert report["num_patients"] == 30
    assert report["num_unknown_group"] == (rows["sex"] == "").sum()
    assert sum(part["num_images"] for part in report["splits"].values()) == 60
    assert sum(part["num_patients"] for part in report["splits"].values()) == 30
    assert any("fewer than 10 images" in line for line in report["warnings"])
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(report))
    text = console.export_text()
    assert "60 images" in text
    assert "unknown" in text


def test_inspection_warns_of_empty_cells(tmp_path: Path) -> None:
    rows = write_set(tmp_path)
    rows["label"] = ["rare" if patient == "p0" else "a" for patient in rows["patient"]]
    rows["label"] = rows["label"].where(rows["sex"] != "m", "b")
    rows.to_csv(tmp_path / "t.csv", index=False)
    lines = inspect_dataset(load(tmp_path))["warnings"]
    assert sum("no image of rare" in line for line in lines) == 2
    assert any("class absent in a group" in line and "b in f" in line for line in lines)


class Stripes(DatasetSource):
    """Makes its images: each one filled with its row's number."""

    VERSION = 1
    num_made = 0

    class Config(DataConfig):
        attribute: str = "tone"
        shade: int = 0

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        names = [f"s{number:02d}" for number in range(12)]
        tone = ["light", "dark"] if config.attribute == "tone" else ["dark", "light"]
        rows = pd.DataFrame(
            {
                "image_id": names[::-1],
                "label": ["x", "y"] * 6,
                "group": tone * 6,
                "patient_id": names[::-1],
            }
        )
        return Table(rows, ("x", "y"), ("dark", "light"))

    @classmethod
    def images(cls, config: DataConfig, table: Table, progress=None) -> np.ndarray:
        cls.num_made += 1
        assert isinstance(config, cls.Config)
        value_N = [int(name[1:]) + config.shade for name in table.rows["image_id"]]
        size = config.image_size
        return np.array(value_N, np.uint8)[:, None, None, None] * np.ones(
            (1, size, size, 3), np.uint8
        )


@pytest.fixture
def stripes():
    datasets.register("stripes")(Stripes)
    Stripes.num_made = 0
    yield Stripes
    datasets._classes.pop("stripes")
    Stripes.VERSION = 1


def test_a_source_may_make_its_images(tmp_path: Path, stripes: type[Stripes]) -> None:
    def made(**fields: object):
        config = parse_data({"name": "stripes", "image_size": 8, **fields})
        return load_dataset(config, cache_dir=tmp_path)

    first = made()
    assert first.images_NHWC[:, 0, 0, 0].tolist() == list(range(12))
    assert first.image_id_N[3] == "s03"
    again, other_attribute = made(), made(attribute="sex")
    assert stripes.num_made == 1
    assert again.fingerprint == other_attribute.fingerprint == first.fingerprint
    assert other_attribute.group_digest != first.group_digest
    few = made(limit=6)
    assert few.images_NHWC[:, 0, 0, 0].tolist() == [int(name[1:]) for name in few.image_id_N]
    shaded = made(shade=3)
    stripes.VERSION = 2
    newer = made()
    assert len({first.fingerprint, few.fingerprint, shaded.fingerprint, newer.fingerprint}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": ["s"] * 12}, "image ids that occur twice: 's'"),
        ({"label": ["z"] * 12}, "labels that are no class: 'z'"),
        ({"group": ["pale"] * 12}, "groups that are not declared: 'pale'"),
        ({"patient_id": [""] * 12}, "rows without a patient_id"),
    ],
)
def test_tables_of_any_source_are_checked(
    tmp_path: Path, stripes: type[Stripes], change: dict[str, list[str]], message: str
) -> None:
    whole = Stripes.table(Stripes.Config(name="stripes"))

    class Broken(Stripes):
        @classmethod
        def table(cls, config: DataConfig) -> Table:
            return Table(whole.rows.assign(**change), whole.classes, whole.groups)

    datasets._classes["stripes"] = Broken
    with pytest.raises(UserError, match=message):
        load_dataset(Stripes.Config(name="stripes"), cache_dir=tmp_path)
