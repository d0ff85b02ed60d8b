import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.attributes import age_groups, named_groups, refuse, sex_groups, type_groups
from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.load import load_dataset, parse_data
from trainables.data.synthetic import Synthetic
from trainables.data.synthetic_classes import AGES
from trainables.data.table import TableFile
from trainables.errors import UserError
from trainables.registry import datasets

SYNTHETIC = {"name": "synthetic", "num_images": 60, "image_size": 8}
EXPECTED_DIGESTS = {  # as they were before there were further attributes
    "tone": "1a636330", "tone6": "37efd9a9", "sex": "24f47b68", "age": "78c465db",
}  # fmt: skip


def load(tmp_path: Path, **fields: object):
    return load_dataset(parse_data(SYNTHETIC | fields), cache_dir=tmp_path)


def write_table(folder: Path) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "path": [f"{n}.png" for n in range(24)],
            "label": ["a", "b"] * 12,
            "tone": [str(n % 7 or -1) for n in range(24)],
            "sex": [("f", "m", "")[n % 3] for n in range(24)],
            "site+side": [("arm+left", "leg+right")[n % 2] for n in range(24)],
        }
    )
    for name in rows["path"]:
        Image.new("RGB", (8, 8)).save(folder / name)
    rows.to_csv(folder / "t.csv", index=False)
    return rows


def table_config(folder: Path, **fields: object) -> DataConfig:
    common = {"name": "table", "path": str(folder / "t.csv"), "attribute": "sex"}
    return parse_data(common | {"image_size": 8} | fields)


def test_groups_of_every_attribute_beside_the_sensitive_one(tmp_path: Path) -> None:
    names = ("tone6", "sex", "age", "artefact")
    dataset = load(tmp_path, further_attributes=list(names))
    rows = Synthetic.table(parse_data(SYNTHETIC)).rows.set_index("image_id")
    rows = rows.loc[dataset.image_id_N]
    assert tuple(dataset.further) == names
    for name in ("sex", "age"):
        further = dataset.further[name]
        assert [further.groups[group] for group in further.group_N] == rows[name].tolist()
    assert (dataset.further["tone6"].group_N + 1).tolist() == rows["tone"].tolist()
    marked = (rows["vignette"] | rows["pen"]).astype(int)
    assert dataset.further["artefact"].group_N.tolist() == marked.tolist()
    for further in dataset.further.values():
        assert further.group_N.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            further.group_N[0] = 0
    alone = load(tmp_path, attribute="sex")
    np.testing.assert_array_equal(alone.group_N, dataset.further["sex"].group_N)


@pytest.mark.parametrize("attribute", EXPECTED_DIGESTS)
def test_digests_without_further_attributes_are_what_they_were(
    tmp_path: Path, attribute: str
) -> None:
    dataset = load(tmp_path, attribute=attribute)
    text = json.dumps([dataset.group_N.tolist(), dataset.groups])
    assert dataset.group_digest == hashlib.sha256(text.encode()).hexdigest()
    assert dataset.group_digest.startswith(EXPECTED_DIGESTS[attribute])
    assert dataset.further == {}


def test_the_digest_covers_what_is_configured(tmp_path: Path) -> None:
    plain = load(tmp_path)
    sets = [
        load(tmp_path, further_attributes=names)
        for names in (["sex"], ["age"], ["sex", "age"], ["age", "sex"], ["tone+sex"])
    ]
    assert {each.fingerprint for each in sets} == {plain.fingerprint}
    digests = [each.group_digest for each in sets]
    assert digests[2] == digests[3]  # by name, whatever the order
    assert len({plain.group_digest, *digests}) == 5


def test_combined_groups_are_the_pairs_that_occur(tmp_path: Path) -> None:
    dataset = load(tmp_path, attribute="tone+sex+age", num_images=400)
    rows = Synthetic.table(parse_data(SYNTHETIC | {"num_images": 400})).rows
    rows = rows.set_index("image_id").loc[dataset.image_id_N]
    triples = list(zip(rows["tone_group"], rows["sex"], rows["age"], strict=True))
    assert [dataset.groups[group] for group in dataset.group_N] == ["+".join(t) for t in triples]
    order = [
        "+".join(triple)
        for triple in itertools.product(("light", "dark"), ("female", "male"), AGES)
        if triple in set(triples)
    ]
    assert dataset.groups == tuple(order)
    assert dataset.attribute == "tone+sex+age"


def test_unknown_in_one_part_is_unknown_in_the_combination(tmp_path: Path) -> None:
    rows = write_table(tmp_path)
    dataset = load_dataset(
        table_config(
            tmp_path, attribute="sex+tone", thresholds={"tone": 4}, further_attributes=["tone"]
        ),
        cache_dir=tmp_path / "cache",
    )
    expected = {}
    for row in rows.itertuples():
        tone = "below_4" if int(row.tone) < 4 else "at_least_4"
        known = row.sex and row.tone != "-1"
        expected[row.path.removesuffix(".png")] = f"{row.sex}+{tone}" if known else None
    for name, group in zip(dataset.image_id_N, dataset.group_N, strict=True):
        assert expected[name] == (None if group < 0 else dataset.groups[group])
    assert dataset.groups == ("f+below_4", "f+at_least_4", "m+below_4", "m+at_least_4")
    assert dataset.further["tone"].groups == ("below_4", "at_least_4")
    num = sum(group is None for group in expected.values())
    assert f"{num} of 24 images have no known sex+tone: left out of every score and metric" in (
        dataset.warnings
    )
    assert "4 of 24 images have no known tone: left out of every score and metric" in (
        dataset.warnings
    )


def test_a_column_with_a_plus_is_one_attribute(tmp_path: Path) -> None:
    write_table(tmp_path)
    found = TableFile.table(table_config(tmp_path, further_attributes=["site+side"]))
    assert found.further_groups == {"site+side": ("arm+left", "leg+right")}
    combined = TableFile.table(table_config(tmp_path, attribute="sex+label"))
    assert combined.groups == ("f+a", "f+b", "m+a", "m+b")


def test_limit_and_order_keep_further_groups_with_their_images(tmp_path: Path) -> None:
    rows = write_table(tmp_path)
    small = load_dataset(
        table_config(tmp_path, limit=18, further_attributes=["tone"]), cache_dir=tmp_path / "c"
    )
    tone = {row.path.removesuffix(".png"): row.tone for row in rows.itertuples()}
    found = small.further["tone"]
    assert len(found.group_N) == len(small.image_id_N) == 18
    for name, group in zip(small.image_id_N, found.group_N, strict=True):
        assert tone[name] == ("-1" if group < 0 else found.groups[group])


def test_mistakes(tmp_path: Path) -> None:
    write_table(tmp_path)
    for fields, message in (
        ({"further_attributes": ["tonne"]}, "no column 'tonne', did you mean 'tone'"),
        ({"attribute": "sex+tonne"}, "no column 'tonne', did you mean 'tone'"),
        ({"further_attributes": ["sex"]}, "each attribute may be given once"),
        ({"further_attributes": ["tone", "tone"]}, "each attribute may be given once"),
        ({"attribute": "tone", "thresholds": {"tonne": 4}}, "'tonne' is no attribute, did you"),
        ({"attribute": "tone+sex", "threshold": 4}, "divides a single attribute"),
        ({"attribute": "sex", "thresholds": {"sex": 4}}, "'sex' must hold finite numbers"),
    ):
        with pytest.raises(UserError, match=message):
            TableFile.table(table_config(tmp_path, **fields))
    with pytest.raises(UserError, match=r"attribute: .*'age' or 'artefact' but got 'tone\+sx'"):
        parse_data(SYNTHETIC | {"attribute": "tone+sx"})
    with pytest.raises(UserError, match=r"data\.further_attributes: .*'artefact' but got \['x'\]"):
        parse_data(SYNTHETIC | {"further_attributes": ["x"]})


def test_too_many_combinations_are_refused(tmp_path: Path) -> None:
    rows = write_table(tmp_path)
    rows = pd.concat([rows] * 3, ignore_index=True)
    rows["id"] = [str(n) for n in range(72)]
    rows["ward"], rows["bed"] = [str(n // 9) for n in range(72)], [str(n % 9) for n in range(72)]
    rows.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"'ward\+bed' makes 72 groups, 2 to 50 are possible"):
        TableFile.table(table_config(tmp_path, attribute="ward+bed", image_id="id"))


def test_a_source_that_reads_no_further_attribute_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(DatasetSource):
        class Config(DataConfig):
            attribute: str = "sex"

        @classmethod
        def table(cls, config: DataConfig) -> Table:
            rows = write_table(tmp_path).assign(image_id=lambda rows: rows["path"])
            rows = rows.assign(group=None, patient_id=rows["path"])
            return Table(rows, ("a", "b"), ("f", "m"))

    monkeypatch.setitem(datasets._classes, "plain", Plain)
    config = {"name": "plain", "further_attributes": ["tone"]}
    with pytest.raises(UserError, match="tone is not read by the data set plain"):
        load_dataset(parse_data(config), cache_dir=tmp_path / "c")
    with pytest.raises(UserError, match="paper but the data set plain has no published split"):
        load_dataset(parse_data({"name": "plain", "split": "paper"}), cache_dir=tmp_path / "c")


def test_values_become_groups() -> None:
    problems: list[str] = []
    assert sex_groups(["Male", "FEMALE", "unknown", ""], problems)[0] == [
        "male", "female", None, None,
    ]  # fmt: skip
    assert age_groups(["59", "60.0", "", "0"], 60, problems) == (
        ["under_60", "60_and_over", None, "under_60"],
        ("under_60", "60_and_over"),
    )
    assert named_groups(["Back", "face", "unknown"]) == (["back", "face", None], ("back", "face"))
    bins = {"light": (1, 2), "dark": (5,)}
    assert type_groups(["1", "2.0", "5", "3", "-1", ""], bins, problems, "dark")[0] == [
        "light", "light", "dark", None, "dark", "dark",
    ]  # fmt: skip
    assert problems == []
    refuse(problems, "here")
    sex_groups(["x"], problems)
    age_groups(["y", "z"], 60, problems)
    assert type_groups(["7", "2.5"], bins, problems)[0] == [None, None]
    with pytest.raises(UserError) as caught:
        refuse(problems, "t.csv")
    expected = "unknown sex: 'x'; unknown age: 'y', 'z'; unknown skin type: '2.5', '7' (t.csv)"
    assert str(caught.value) == expected
