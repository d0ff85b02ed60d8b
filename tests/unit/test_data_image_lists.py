from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data.base import Table
from trainables.data.image_lists import read_groups, read_list, with_lists
from trainables.data.load import load_dataset, parse_data
from trainables.errors import UserError

IDS = [f"{number:x}" * 8 + "0" * 24 for number in range(1, 13)]  # like MD5 names


def table(patients: list[str] | None = None) -> Table:
    rows = pd.DataFrame(
        {
            "image_id": IDS,
            "label": ["a", "b", "c"] * 4,
            "group": None,
            "patient_id": patients or IDS,
        }
    )
    return Table(rows, ("a", "b", "c"), ("x", "y"), ("first",))


def config(**fields: object):
    return parse_data({"name": "table", "path": "t.csv", "attribute": "sex", **fields})


def components(num: int, groups: list[list[int]]) -> list[int]:
    """The smallest number that can be reached, by repeated sweeps."""
    of = list(range(num))
    for _ in range(num):
        for group in groups:
            least = min(of[member] for member in group)
            for member in group:
                of[member] = least
    return of


@pytest.mark.parametrize("field", ["exclude", "keep"])
@pytest.mark.parametrize("form", ["lines", "one column", "headerless.csv", "table", "quoted"])
def test_lists_in_every_form(tmp_path: Path, field: str, form: str) -> None:
    names = [IDS[2], IDS[5], "f" * 32]
    path = tmp_path / ("list.txt" if form in ("lines", "quoted") else "list.csv")
    if form == "lines":
        path.write_text(f"{IDS[2]}.jpg\n\nsome/folder/{IDS[5]}.jpg\n{'f' * 32}\n")
    elif form == "quoted":
        path.write_text("".join(f"'{name}',\n" for name in names))
    elif form == "headerless.csv":
        path.write_text("\n".join(names))
    else:
        frame = pd.DataFrame({"md5hash": names, "label": "acne", "filename": "other"})
        frame[["md5hash"] if form == "one column" else list(frame)].to_csv(path, index=False)
    found = with_lists(table(), config(**{field: str(path)}))
    inside = [name in (IDS[2], IDS[5]) for name in IDS]
    expected = [name for name, yes in zip(IDS, inside, strict=True) if yes == (field == "keep")]
    assert found.rows["image_id"].tolist() == expected
    num = len(IDS) - len(expected)
    line = f"data.{field}: {num} images were left out; 1 of the list are not in the table"
    assert found.warnings == ("first", line)
    assert found.rows.index.tolist() == list(range(len(expected)))


def test_groups_join_patients_through_chains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        groups = [
            rng.choice(12, rng.integers(1, 4), replace=False).tolist()
            for _ in range(rng.integers(1, 6))
        ]
        owner = sorted(rng.integers(0, 9, 12).tolist())  # some patients have several images
        frame = pd.DataFrame(
            [(IDS[member], number) for number, group in enumerate(groups) for member in group],
            columns=["image_id", "group"],
        )
        frame.to_csv(tmp_path / "d.csv", index=False)
        found = with_lists(
            table([f"p{number}" for number in owner]),
            config(duplicates=str(tmp_path / "d.csv")),
        )
        by_patient = [[n for n in range(12) if owner[n] == o] for o in set(owner)]
        joining = [group for group in groups if len(group) > 1]
        linked = components(12, joining + by_patient)
        patients = found.rows["patient_id"].tolist()
        assert patients == [f"p{owner[linked[n]]}" for n in range(12)]
        num_mixed = sum(len({n % 3 for n in group}) > 1 for group in joining)
        num_images = sum(map(len, joining))
        mixed = f", {num_mixed} of them with more than one class" if num_mixed else ""
        line = f"{num_images} images in {len(joining)} groups are kept together{mixed}"
        assert found.warnings[1] == f"data.duplicates: {line}"


def test_clusters_as_published(tmp_path: Path) -> None:
    path = tmp_path / "clusters.txt"
    path.write_text(
        f"['lu-er_f4_326_{IDS[0][:8]}', 'lu-er_f3_99_{IDS[3][:8]}']\n"
        f"['a_f1_1_{IDS[7][:8]}', 'a_f1_2_{IDS[6][:8]}', 'a_f1_3_{IDS[8][:8]}']\n"
    )
    found = with_lists(table(), config(duplicates=str(path))).rows["patient_id"].tolist()
    expected = IDS.copy()
    expected[3] = IDS[0]
    expected[7] = expected[8] = IDS[6]
    assert found == expected


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such list"):
        with_lists(table(), config(exclude=str(tmp_path / "none.txt")))
    path = tmp_path / "list.csv"
    pd.DataFrame({"a": IDS, "b": IDS}).to_csv(path, index=False)
    with pytest.raises(UserError, match="no column of images: image_id, md5hash"):
        read_list(path)
    pd.DataFrame({"image_id": IDS, "groups": 1}).to_csv(path, index=False)
    with pytest.raises(UserError, match="no column of groups: duplicate_group, group, cluster"):
        read_groups(path)
    (tmp_path / "list.txt").write_text("ISIC_1\nISIC_2\n")
    with pytest.raises(UserError, match=r"data\.keep: none of the 2 images is known, such as 'IS"):
        with_lists(table(), config(keep=str(tmp_path / "list.txt")))
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="cannot read the list"):
        with_lists(table(), config(keep=str(tmp_path / "list.txt")))


def test_without_lists_the_table_is_the_same_object() -> None:
    whole = table()
    assert with_lists(whole, config()) is whole


def test_any_data_set_keeps_listed_images_together(tmp_path: Path) -> None:
    base = {"name": "synthetic", "num_images": 60, "image_size": 8}
    plain = load_dataset(parse_data(base), cache_dir=tmp_path)
    ids = plain.image_id_N.tolist()
    pairs = [(ids[number], ids[-1 - number]) for number in range(8)]
    (tmp_path / "d.txt").write_text("\n".join(map(" ".join, pairs)))
    (tmp_path / "e.txt").write_text(ids[30])
    lists = {"duplicates": str(tmp_path / "d.txt"), "exclude": str(tmp_path / "e.txt")}
    joined = load_dataset(parse_data(base | lists), cache_dir=tmp_path)
    where = dict(zip(joined.image_id_N.tolist(), joined.split_N.tolist(), strict=True))
    assert all(where[one] == where[other] for one, other in pairs)
    assert set(ids) - set(where) == {ids[30]}
    assert joined.fingerprint != plain.fingerprint
    before = dict(zip(ids, plain.split_N.tolist(), strict=True))
    assert any(before[one] != before[other] for one, other in pairs)
