"""Darkened images: who is chosen, what happens to the pixels, and what is keyed on it."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.base import DataConfig
from trainables.data.darken import Darken, class_shares, darkened_patients
from trainables.data.darkened_array import darkened_array, new_values
from trainables.data.load import load_dataset, parse_data
from trainables.data.synthetic import Synthetic
from trainables.data.synthetic_colour import MELANIN_DENSITY_C
from trainables.errors import UserError
from trainables.specs import canonical

CLASSES = ("bcc", "mel", "nv")


def people(num: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Patients with one to three images of one class; one in ten is mel, three in ten bcc."""
    rng = np.random.default_rng(seed)
    patients, labels = [], []
    for number in range(num):
        label = CLASSES[int(np.searchsorted([0.3, 0.4], rng.random(), side="right"))]
        for _ in range(rng.integers(1, 4)):
            patients.append(f"p{number:04d}")
            labels.append(label)
    return patients, labels


def write_set(folder: Path, num: int = 40) -> Path:
    """A CSV of photographs in skin colours, two a patient, as PNG so that pixels are exact."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(num):
        pixels = rng.integers(40, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"i{number:03d}.png")
        patient = number // 2
        lines.append(
            {
                "path": f"i{number:03d}.png",
                "label": CLASSES[patient % 3],
                "sex": "fm"[patient % 2],
                "patient": f"p{patient}",
            }
        )
    pd.DataFrame(lines).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def config(csv: Path, **fields: object) -> DataConfig:
    base = {"name": "table", "path": str(csv), "attribute": "sex", "patient": "patient"}
    return parse_data(base | {"image_size": 16} | fields)


def load(csv: Path, **fields: object):
    return load_dataset(config(csv, **fields), cache_dir=csv.parent / "cache")


@pytest.mark.parametrize(("num", "share"), [(1000, 0.08), (1013, 0.08), (97, 0.3), (25, 0.5)])
def test_the_share_of_patients_is_met_in_all_and_in_each_class(num: int, share: float) -> None:
    patients, labels = people(num)
    chosen = darkened_patients(patients, labels, Darken(share=share))
    assert abs(len(chosen) - share * num) <= 0.5
    label_of = dict(zip(patients, labels, strict=True))
    for name in CLASSES:
        members = [p for p, label in label_of.items() if label == name]
        assert abs(len(chosen.keys() & set(members)) - share * len(members)) < 1.001


@pytest.mark.parametrize("link", [0.0, 0.3, 0.75, 1.0])
def test_the_class_link_raises_the_share_of_linked_classes_to_the_closed_form(link: float) -> None:
    patients, labels = people(3000)
    darken = Darken(share=0.08, class_link=link, linked_classes=("bcc", "mel"))
    chosen = darkened_patients(patients, labels, darken)
    label_of = dict(zip(patients, labels, strict=True))
    linked = [p for p, label in label_of.items() if label != "nv"]
    q = len(linked) / 3000
    dark_linked = len(chosen.keys() & set(linked))
    assert len(chosen) == 240  # whatever the link
    # of the darkened patients q + link (1 - q) are linked: written out by Bayes' rule
    assert dark_linked / 240 == pytest.approx(q + link * (1 - q), abs=1 / 240)
    expected = class_shares(q, darken)
    assert dark_linked / len(linked) == pytest.approx(expected[0], abs=1 / len(linked))
    other = (240 - dark_linked) / (3000 - len(linked))
    assert other == pytest.approx(expected[1], abs=1 / (3000 - len(linked)))
    assert other == pytest.approx(0.08 * (1 - link), abs=1e-3)
    assert q * expected[0] + (1 - q) * expected[1] == pytest.approx(0.08)


def test_the_same_patients_whatever_the_order_of_the_table() -> None:
    patients, labels = people(400)
    first = darkened_patients(patients, labels, Darken())
    order = np.random.default_rng(1).permutation(len(patients))
    again = darkened_patients([patients[i] for i in order], [labels[i] for i in order], Darken())
    assert first == again
    other = darkened_patients(patients, labels, Darken(seed=1))
    # two independent draws of 32 of 400 share 2.6 patients on average
    assert len(first.keys() & other.keys()) < 12
    assert first != other


def test_a_wider_share_keeps_the_patients_of_a_narrower_one() -> None:
    patients, _ = people(500)
    labels = ["nv"] * len(patients)  # with several classes, rounding may move one patient
    few = darkened_patients(patients, labels, Darken(share=0.05))
    many = darkened_patients(patients, labels, Darken(share=0.2))
    assert few.items() <= many.items()


def test_densities_fill_their_range() -> None:
    patients, labels = people(4000)
    density = Darken(share=0.5, density=(0.5, 2.5))
    dM = np.array(list(darkened_patients(patients, labels, density).values()))
    assert len(dM) == 2000
    quantiles = np.quantile(dM, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, [0.5, 1, 1.5, 2, 2.5], atol=0.06)
    same = darkened_patients(patients, labels, Darken(share=0.5, density=(1.2, 1.2)))
    assert set(same.values()) == {1.2}


def test_optical_density_by_channel_is_found_in_the_pixels() -> None:
    """From old and new values alone, with the sRGB curve written out here."""
    old = np.arange(256) / 255
    for dM in (0.3, 1.2, 2.6):
        new = new_values(dM)
        assert new.shape == (3, 256)
        assert (new[:, 0] == 0).all()
        assert (np.diff(new.astype(int), axis=1) >= 0).all()
        for channel in range(3):
            low, high = (new[channel] + np.array([[-0.5], [0.5]])) / 255  # what was rounded
            bright = new[channel] >= 8
            linear = [np.where(v <= 0.04045, v / 12.92, ((np.abs(v) + 0.055) / 1.055) ** 2.4)
                      for v in (old, low, high)]  # fmt: skip
            density = -np.log(linear[1][bright] / linear[0][bright])
            least = -np.log(linear[2][bright] / linear[0][bright])
            expected = dM * MELANIN_DENSITY_C[channel]
            assert bright.sum() > 80
            assert (least <= expected + 1e-9).all()
            assert (density >= expected - 1e-9).all()
    assert MELANIN_DENSITY_C.tolist() == [0.32, 0.52, 0.80]


def test_darkened_rows_change_and_the_others_are_bit_identical(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (600, 4, 5, 3), dtype=np.uint8)  # three blocks
    density = np.zeros(600)
    density[[0, 255, 256, 599]] = [0.4, 1.0, 1.7, 2.6]
    array, key = darkened_array(images, "content", density, cache_dir=tmp_path)
    for row in range(600):
        if density[row] == 0:
            np.testing.assert_array_equal(array[row], images[row])
            continue
        for value in itertools.product(range(4), range(5), range(3)):
            scale = np.exp(-density[row] * (0.32, 0.52, 0.80)[value[2]])
            old = images[row][value] / 255
            linear = (old / 12.92 if old <= 0.04045 else ((old + 0.055) / 1.055) ** 2.4) * scale
            curve = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
            assert abs(int(array[row][value]) - 255 * curve) <= 0.5 + 1e-9
    again, same = darkened_array(images, "content", density, cache_dir=tmp_path)
    assert same == key
    np.testing.assert_array_equal(array, again)
    keys = {darkened_array(images, "other", density, cache_dir=tmp_path)[1], key}
    density[0] = 0.41
    keys.add(darkened_array(images, "content", density, cache_dir=tmp_path)[1])
    assert len(keys) == 3
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_load_darkens_whatever_attribute_is_read(tmp_path: Path) -> None:
    csv = write_set(tmp_path)
    plain = load(csv)
    darken = {"share": 0.25, "density": [1.8, 1.8]}
    by_sex, by_tone = load(csv, darken=darken), load(csv, darken=darken, attribute="tone")
    np.testing.assert_array_equal(by_sex.images_NHWC, by_tone.images_NHWC)
    assert by_sex.fingerprint == by_tone.fingerprint != plain.fingerprint
    assert by_sex.group_digest == plain.group_digest != by_tone.group_digest
    assert (by_sex.groups, by_tone.groups) == (("f", "m"), ("original", "darkened"))
    assert by_tone.attribute == "tone"
    dark = by_tone.group_N == 1
    assert dark.sum() == 10  # 5 of 20 patients, two images each
    for patient in set(plain.patient_id_N):
        assert len(set(dark[plain.patient_id_N == patient])) == 1
    np.testing.assert_array_equal(by_tone.images_NHWC[~dark], plain.images_NHWC[~dark])
    table_CV = new_values(1.8)
    for channel in range(3):
        expected = table_CV[channel][plain.images_NHWC[dark][..., channel]]
        np.testing.assert_array_equal(by_tone.images_NHWC[dark][..., channel], expected)
    (line,) = [line for line in by_sex.warnings if "data.darken" in line]
    assert "10 of 40 images (5 of 20 patients" in line
    assert not any("tone" in line for line in by_tone.warnings)  # nobody's tone is unknown
    assert (plain.split_N == by_tone.split_N).all()
    assert load(csv).fingerprint == plain.fingerprint


def test_rows_of_the_table_in_any_order_give_the_same_data(tmp_path: Path) -> None:
    csv = write_set(tmp_path)
    options = {"darken": {"share": 0.25}, "attribute": "tone"}
    first = load(csv, **options)
    pd.read_csv(csv).sample(frac=1, random_state=1).to_csv(csv, index=False)
    again = load(csv, **options)
    assert (first.fingerprint, first.group_digest) == (again.fingerprint, again.group_digest)


def test_tone_combines_with_other_attributes(tmp_path: Path) -> None:
    csv = write_set(tmp_path)
    both = load(csv, darken={"share": 0.4}, attribute="sex+tone", further_attributes=["tone"])
    tone = load(csv, darken={"share": 0.4}, attribute="tone")
    sex = load(csv)
    names = [both.groups[group] for group in both.group_N]
    expected = [
        f"{sex.groups[s]}+{tone.groups[t]}"
        for s, t in zip(sex.group_N, tone.group_N, strict=True)
    ]
    assert names == expected
    assert len(both.groups) == 4
    np.testing.assert_array_equal(both.further["tone"].group_N, tone.group_N)


def test_specs_without_the_option_are_what_they_were(tmp_path: Path) -> None:
    assert "darken" not in canonical(config(write_set(tmp_path)))
    assert Synthetic.Config().darken is None
    shown = config(tmp_path / "t.csv", darken={"share": 0.1}).model_dump(mode="json")
    assert parse_data(shown) == config(tmp_path / "t.csv", darken=Darken(share=0.1))


def test_mistakes(tmp_path: Path) -> None:
    csv = write_set(tmp_path)
    with pytest.raises(UserError, match=r"data\.darken.*synthetic makes its own images"):
        load_dataset(Synthetic.Config(num_images=20, darken=Darken()), cache_dir=tmp_path)
    with pytest.raises(UserError, match=r"linked_classes: no image of class 'wart'.*bcc, mel, nv"):
        load(csv, darken={"class_link": 0.5, "linked_classes": ["wart"]})
    with pytest.raises(UserError, match=r"needs 10 patients of mel but there are 7"):
        load(csv, darken={"share": 0.5, "class_link": 1, "linked_classes": ["mel"]})
    with pytest.raises(UserError, match=r"0\.02 of 20 patients or lesions is nobody"):
        load(csv, darken={"share": 0.02})
    with pytest.raises(UserError, match=r"no column 'tone'"):
        load(csv, attribute="tone")
    for wrong, words in (
        ({"share": 0}, "greater than 0"),
        ({"density": [2, 1]}, "the lower first"),
        ({"density": [0, 1]}, "above 0"),
        ({"class_link": 0.5}, "no linked_classes"),
        ({"sharee": 0.1}, "did you mean 'share'"),
    ):
        with pytest.raises(UserError, match=words):
            config(csv, darken=wrong)
    for name in ("ham10000", "isic2019"):
        place = {"name": name, "root": str(tmp_path)}
        assert parse_data(place | {"darken": {}, "attribute": "tone"}).attribute == "tone"
        with pytest.raises(UserError, match=r"data\.attribute.* but got 'tone'"):
            parse_data(place | {"attribute": "tone"})
