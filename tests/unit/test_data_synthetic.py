import hashlib
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainables.data.synthetic import Synthetic, photographs, write
from trainables.data.synthetic_classes import AGES, CLASSES, SEXES, sex_age_shares
from trainables.data.synthetic_colour import (
    lab_from_linear,
    linear_from_lab,
    linear_from_srgb,
    srgb_from_linear,
)
from trainables.data.synthetic_config import SyntheticConfig
from trainables.data.synthetic_lesion import draw_outline
from trainables.data.synthetic_render import Photograph, render
from trainables.errors import UserError
from trainables.registry import datasets

PLAIN = {"hair_share": 0.0, "vignette_share": 0.0, "pen_share": 0.0, "lighting": 0.0}

PINNED_MEAN = 119.503
PINNED_TABLE = "5eae19d40653"


def make(**dials: object) -> SyntheticConfig:
    return Synthetic.Config(**{"image_size": 32, **dials})  # type: ignore[arg-type]


def lab_of(image_HWC: np.ndarray) -> np.ndarray:
    return lab_from_linear(linear_from_srgb(image_HWC / 255))


@pytest.mark.parametrize(
    ("srgb", "lab"),
    [  # published values of the sRGB primaries, white and mid-grey under D65
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.59, 0.0, 0.0)),
    ],
)
def test_colour_known_values(srgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    np.testing.assert_allclose(lab_of(np.array(srgb)), lab, atol=0.02)


def test_colour_round_trip() -> None:
    linear = np.random.default_rng(0).random((500, 3))
    np.testing.assert_allclose(linear_from_lab(lab_from_linear(linear)), linear, atol=1e-12)
    # The standard's rounded constants leave a step of about 1e-7 at the knee.
    np.testing.assert_allclose(linear_from_srgb(srgb_from_linear(linear)), linear, atol=1e-6)


def test_registered_and_shapes() -> None:
    assert datasets.get("synthetic") is Synthetic
    config = make(num_images=7, aspect=1.34)
    table = Synthetic.table(config)
    images = Synthetic.images(config, table)
    assert images.dtype == np.uint8
    assert images.shape == (7, 32, round(32 * 1.34), 3)
    assert table.rows["image_id"].is_unique
    assert len(np.unique(images.reshape(7, -1), axis=0)) == 7
    assert images.std() > 10


def test_deterministic_and_any_row_order() -> None:
    config = make(num_images=12)
    table = Synthetic.table(config)
    images = Synthetic.images(config, table)
    pd.testing.assert_frame_equal(table.rows, Synthetic.table(config).rows)
    np.testing.assert_array_equal(images, Synthetic.images(config, Synthetic.table(config)))
    picked = table.rows.iloc[[9, 2, 5]].reset_index(drop=True)
    part = Synthetic.images(config, type(table)(picked, table.classes, table.groups))
    np.testing.assert_array_equal(part, images[[9, 2, 5]])
    other = Synthetic.images(
        make(num_images=12, seed=1), Synthetic.table(make(num_images=12, seed=1))
    )
    assert (other != images).mean() > 0.8


def test_pixels_are_pinned_within_a_step() -> None:
    # Random streams and version belong together: a change of pixels needs a new VERSION.
    config = make(num_images=6, image_size=16, **PLAIN)
    images = Synthetic.images(config, Synthetic.table(config))
    assert Synthetic.VERSION == 1
    assert images.mean() == pytest.approx(PINNED_MEAN, abs=0.02)
    assert hashlib.sha256(Synthetic.table(config).rows.to_csv(index=False).encode()).hexdigest()[
        :12
    ] == (PINNED_TABLE)


def test_prefix_and_dials_leave_other_draws_alone() -> None:
    short, long = Synthetic.table(make(num_images=50)), Synthetic.table(make(num_images=100))
    pd.testing.assert_frame_equal(short.rows, long.rows.iloc[:50])
    noisy = Synthetic.table(make(num_images=100, label_noise=0.5, artefact_class_link=3.0))
    unchanged = ["image_id", "true_label", "tone", "sex", "age", "hair"]
    pd.testing.assert_frame_equal(noisy.rows[unchanged], long.rows[unchanged])


@pytest.mark.parametrize("label", CLASSES)
def test_calibration_of_lesions(label: str) -> None:
    """Medians over 120 lesions of type I against the measured ones."""
    measured = []
    for patient in range(120):
        image, mask = render(Photograph(3, patient, 0, label, 1, lighting=0.0), 48, 64)
        lab = lab_of(image)
        difference = lab[mask].mean(axis=0) - lab[~mask].mean(axis=0)
        spread = lab[mask].std(axis=0)
        measured.append([mask.mean(), *difference, spread[0], spread[2]])
    area, d_l, d_a, d_b, spread_l, spread_b = np.median(measured, axis=0)
    want = CLASSES[label]
    # Tolerance: 3 standard errors of a median of 120 (1.25 s.d. / sqrt(120)), a little for
    # clipping at black and at the frame, and 1 for what gamut clipping takes from a*, b*.
    assert area == pytest.approx(want.area, rel=0.2)
    assert d_l == pytest.approx(want.offset[0], abs=2.5)
    assert d_a == pytest.approx(want.offset[1], abs=2.2)
    assert d_b == pytest.approx(want.offset[2], abs=2.4)
    assert spread_l == pytest.approx(want.spread_l, rel=0.2)
    assert spread_b == pytest.approx(want.spread_b, rel=0.2)


@pytest.mark.parametrize("label", CLASSES)
def test_outline_area_and_compactness(label: str) -> None:
    angle = np.linspace(0, 2 * math.pi, 4001)
    compactness, area = [], []
    for patient in range(120):
        outline = draw_outline(3, patient, label, 1.0)
        _, border = outline.excess(np.cos(angle)[None], np.sin(angle)[None])
        x, y = border[0] * np.cos(angle), border[0] * np.sin(angle)
        enclosed = 0.5 * abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))  # shoelace formula
        length = np.hypot(np.diff(x), np.diff(y)).sum()
        assert border.min() > 0
        compactness.append(length**2 / (4 * math.pi * enclosed))
        area.append(enclosed)
    assert min(compactness) >= 1
    assert np.median(compactness) == pytest.approx(CLASSES[label].compactness, abs=0.05)
    assert np.median(area) == pytest.approx(CLASSES[label].area, rel=0.2)
    assert min(area) >= 0.04 - 1e-6
    assert max(area) <= 0.64 + 1e-6


def test_edge_is_within_a_factor_of_two_of_the_measured_step() -> None:
    """L* 4 px outside minus 4 px inside the outline at 200x150, for the two commonest classes."""
    for label in ("nv", "mel"):
        steps = []
        for patient in range(20):
            photo = Photograph(3, patient, 0, label, 1, lighting=0.0)
            image, mask = render(photo, 150, 200)
            lightness = lab_of(image)[..., 0]
            row, column = np.nonzero(mask[:, 1:] != mask[:, :-1])
            keep = (column > 4) & (column < 194)
            row, column = row[keep], column[keep]
            left, right = lightness[row, column - 3], lightness[row, column + 4]
            enters = mask[row, column + 1]
            steps.append(np.where(enters, left - right, right - left).mean())
        want = CLASSES[label].edge
        assert want / 2 < np.median(steps) < want * 2


@pytest.mark.parametrize(("tone", "lightness", "ita"), [
    (1, 68, 66), (2, 64, 51), (3, 59, 31), (4, 54, 10), (5, 48, -6), (6, 41, -20),
])  # fmt: skip
def test_skin_by_tone(tone: int, lightness: float, ita: float) -> None:
    skin = []
    for patient in range(60):
        image, mask = render(Photograph(5, patient, 0, "vasc", tone, lighting=0.0), 32, 32)
        far = ~mask
        far[8:24, 8:24] = False  # the rim only: no soft border of a lesion
        skin.append(np.median(lab_of(image)[far], axis=0))
    median = np.median(skin, axis=0)
    assert median[0] == pytest.approx(lightness, abs=1.5)
    measured = math.degrees(math.atan2(median[0] - 50, median[2]))
    assert measured == pytest.approx(ita, abs=5)


def test_lighting_swamps_neighbouring_tones() -> None:
    """Raw skin lightness must not give the tone away, as in real photographs."""
    lightness = {}
    for tone in (1, 2):
        lightness[tone] = [
            np.median(lab_of(render(Photograph(5, p, 0, "vasc", tone), 24, 24)[0])[..., 0])
            for p in range(60)
        ]
    apart = np.mean(lightness[1]) - np.mean(lightness[2])
    assert 2 < apart < 6
    assert np.std(lightness[1]) > 0.7 * apart


def test_shares_and_links() -> None:
    rows = Synthetic.table(make(num_images=6000, images_per_patient=1.0)).rows
    dark = rows["tone_group"] == "dark"
    assert dark.mean() == pytest.approx(0.3, abs=0.02)
    assert set(rows.loc[dark, "tone"]) == {4, 5, 6}
    assert set(rows.loc[~dark, "tone"]) == {1, 2, 3}
    for name in ("nv", "mel", "bkl", "bcc"):
        assert (rows["label"] == name).mean() == pytest.approx(0.25, abs=0.02)
        # No link: the class's share is the same in both groups.
        apart = (rows["label"] == name)[dark].mean() - (rows["label"] == name)[~dark].mean()
        assert abs(apart) < 0.05
    linked = Synthetic.table(
        make(num_images=6000, class_tone_link=1.0, images_per_patient=1.0)
    ).rows
    by_group = (linked["label"] == "nv").groupby(linked["tone_group"]).mean()
    assert by_group["dark"] == pytest.approx(0.95 + 0.05 * 0.25, abs=0.01)
    assert by_group["light"] == pytest.approx(0.25, abs=0.025)


def test_class_shares_follow_the_dial() -> None:
    config = make(num_images=4000, classes=("nv", "df", "vasc"), class_shares=(6, 3, 1))
    assert config.malignant == ()
    share = Synthetic.table(config).rows["label"].value_counts(normalize=True)
    assert share["nv"] == pytest.approx(0.6, abs=0.03)
    assert share["vasc"] == pytest.approx(0.1, abs=0.03)


def test_artefacts_by_class() -> None:
    plain = Synthetic.table(make(num_images=8000)).rows
    linked = Synthetic.table(make(num_images=8000, artefact_class_link=1.0)).rows
    assert (plain["hair"] > 0).mean() == pytest.approx(0.23, abs=0.015)
    assert (plain["hair"] > 0.04).mean() == pytest.approx(0.08, abs=0.01)
    assert plain["vignette"].mean() == pytest.approx(0.073, abs=0.012)
    is_mel, is_nv = plain["true_label"] == "mel", plain["true_label"] == "nv"
    assert plain["vignette"][is_mel].mean() == pytest.approx(0.073, abs=0.02)
    assert linked["vignette"][is_mel].mean() == pytest.approx(0.138, abs=0.025)
    assert linked["vignette"][is_nv].mean() == pytest.approx(0.050, abs=0.018)
    malignant = linked["true_label"].isin(["mel", "bcc"])
    assert linked["pen"][malignant].mean() > 3 * linked["pen"][~malignant].mean()


def test_hair_covers_about_its_share_and_vignette_darkens_corners() -> None:
    covered, wanted = [], []
    for patient in range(40):
        base = Photograph(7, patient, 0, "nv", 1, lighting=0.0)
        cover = 0.02 + 0.002 * patient
        hairy = Photograph(7, patient, 0, "nv", 1, lighting=0.0, hair=cover)
        before, _ = render(base, 150, 150)
        after, _ = render(hairy, 150, 150)
        covered.append(((before.astype(int) - after).max(axis=2) > 25).mean())
        wanted.append(cover)
    assert np.mean(covered) == pytest.approx(np.mean(wanted), rel=0.35)
    for patient in range(10):
        photo = Photograph(7, patient, 0, "nv", 1, lighting=0.0)
        bright, _ = render(photo, 64, 64)
        dark, _ = render(replace(photo, vignette=True), 64, 64)
        lost = 1 - dark[[0, 0, -1, -1], [0, -1, 0, -1]].mean() / bright.mean()
        assert lost > 0.6
        np.testing.assert_allclose(dark[20:44, 20:44], bright[20:44, 20:44].astype(float), atol=2)


def test_label_noise_share_and_patients() -> None:
    rows = Synthetic.table(make(num_images=5000, label_noise=0.2, images_per_patient=1.0)).rows
    assert (rows["label"] != rows["true_label"]).mean() == pytest.approx(0.2, abs=0.02)
    many = Synthetic.table(make(num_images=5000, images_per_patient=2.5)).rows
    per_patient = many.groupby("patient_id")
    assert per_patient.size().mean() == pytest.approx(2.5, abs=0.1)
    assert (per_patient[["label", "tone", "sex", "age"]].nunique() == 1).to_numpy().all()
    alone = Synthetic.table(make(num_images=5000, images_per_patient=1.0)).rows
    assert alone["patient_id"].is_unique


def test_sex_and_age_follow_bayes() -> None:
    rows = Synthetic.table(
        make(num_images=6000, attribute="age", classes=("nv", "akiec"), images_per_patient=1.0)
    ).rows
    assert Synthetic.table(make(num_images=600, attribute="age")).groups == AGES
    assert Synthetic.table(make(num_images=600, attribute="sex")).groups == SEXES
    assert sum(sex_age_shares("df")) == pytest.approx(1)
    # akiec: ages' shares of .001+.009, .028+.041, .070+.074 over their sum
    akiec = rows.loc[rows["label"] == "akiec", "group"].value_counts(normalize=True)
    assert akiec["<=45"] == pytest.approx(0.010 / 0.223, abs=0.02)
    assert akiec[">=65"] == pytest.approx(0.144 / 0.223, abs=0.03)


def test_counterfactual_changes_only_the_melanin() -> None:
    own = make(num_images=20, hair_share=1.0, contrast_loss=0.0)
    table = Synthetic.table(own)
    light, dark = (make(num_images=20, hair_share=1.0, contrast_loss=0.0, counterfactual_tone=t)
                   for t in (1, 6))  # fmt: skip
    light_table, dark_table = Synthetic.table(light), Synthetic.table(dark)
    pd.testing.assert_frame_equal(
        dark_table.rows.drop(columns="rendered_tone"), table.rows.drop(columns="rendered_tone")
    )
    assert set(dark_table.rows["rendered_tone"]) == {6}
    pairs = zip(
        photographs(light, light_table.rows), photographs(dark, dark_table.rows), strict=True
    )
    for a, b in pairs:
        image_a, mask_a = render(a, 32, 32)
        image_b, mask_b = render(b, 32, 32)
        np.testing.assert_array_equal(mask_a, mask_b)
        assert (image_b <= image_a).all()
        assert image_a.mean() - image_b.mean() > 20
    # Type VI patients are rendered as they are either way.
    own_images = Synthetic.images(own, table)
    dark_images = Synthetic.images(dark, dark_table)
    same = (own_images == dark_images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, table.rows["tone"] == 6)


def test_counterfactual_is_beers_law_in_linear_light() -> None:
    for patient in range(5):
        pair = [
            render(Photograph(9, patient, 0, "nv", tone, lighting=0.0), 64, 64)[0].astype(float)
            for tone in (1, 4)
        ]
        light, dark = (linear_from_srgb(image / 255).mean(axis=(0, 1)) for image in pair)
        expected = np.exp(-1.2 * np.array([0.32, 0.52, 0.80]))
        np.testing.assert_allclose(dark / light, expected, rtol=0.03)


def test_contrast_loss_takes_the_stated_share() -> None:
    def contrast(tone: int, loss: float) -> float:
        found = []
        for patient in range(30):
            photo = Photograph(2, patient, 0, "nv", tone, contrast_loss=loss, lighting=0.0)
            image, mask = render(photo, 32, 32)
            lightness = lab_of(image)[..., 0]
            found.append(lightness[~mask].mean() - lightness[mask].mean())
        return float(np.mean(found))

    assert contrast(1, 0.8) == pytest.approx(contrast(1, 0.0), rel=1e-9)
    # Darkening scales L* differences nearly alike: half the offset, near half the contrast.
    assert contrast(6, 0.5) == pytest.approx(0.5 * contrast(6, 0.0), rel=0.15)
    assert contrast(6, 0.0) < 0.8 * contrast(1, 0.0)


def test_second_photograph_shows_the_same_lesion() -> None:
    areas = np.array(
        [
            [render(Photograph(4, p, v, "nv", 2), 48, 48)[1].mean() for v in (0, 1)]
            for p in range(25)
        ]
    )
    assert np.corrcoef(np.log(areas).T)[0, 1] > 0.85
    assert (areas[:, 0] != areas[:, 1]).mean() > 0.8


def test_written_set_reads_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = make(num_images=10, image_size=48)
    seen = []
    csv = write(config, tmp_path / "set", quality=95, progress=lambda k, n: seen.append((k, n)))
    assert csv == tmp_path / "set" / "metadata.csv"
    assert seen[-1] == (10, 10)
    rows = pd.read_csv(csv)
    table = Synthetic.table(config)
    assert {"image_id", "path", "label", "tone", "tone_group", "patient_id", "true_label"} <= set(
        rows
    )
    for column in ("image_id", "path", "label", "tone_group", "patient_id"):
        assert rows[column].tolist() == table.rows[column].tolist()
    images = Synthetic.images(config, table)
    for path, image in zip(rows["path"], images, strict=True):
        with Image.open(csv.parent / path) as file:
            assert file.format == "JPEG"
            decoded = np.asarray(file.convert("RGB")).astype(int)
        assert decoded.shape == (48, 48, 3)
        assert np.abs(decoded - image).mean() < 4
    before = csv.read_bytes()
    write(config, tmp_path / "set")  # the same set again is no mistake
    assert csv.read_bytes() == before
    with pytest.raises(UserError, match="already holds another data set"):
        write(make(num_images=11, image_size=48), tmp_path / "set")
    with pytest.raises(UserError, match=r"quality must be in \[1, 100\] but got 0"):
        write(config, tmp_path / "other", quality=0)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"classes": ("nv", "mell")}, "unknown class 'mell', did you mean 'mel'"),
        ({"classes": ("nv",)}, "classes must be 2 or more"),
        ({"class_shares": (1.0, 2.0)}, "class_shares must have 4 values"),
        ({"class_tone_link": 0.5, "linked_class": "df"}, "linked_class 'df' is none of"),
        ({"dark_shares": (0.0, 0.0, 0.0)}, "dark_shares must be 0 or more"),
    ],
)
def test_mistakes_are_one_line(dials: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(**dials)
    assert "\n" not in str(caught.value)


def test_empty_groups_are_reported() -> None:
    table = Synthetic.table(make(num_images=20, minority_share=0.0))
    assert table.warnings == ("synthetic: no image of group 'dark' among 20",)


def test_learnable_with_a_gap_between_tones() -> None:
    """A linear model on simple colour statistics: above chance, and worse on dark skin."""
    config = make(num_images=1800, image_size=32, contrast_loss=0.7)
    table = Synthetic.table(config)
    images = Synthetic.images(config, table) / 255
    centre = images[:, 10:22, 10:22].reshape(len(images), -1, 3)
    whole = images.reshape(len(images), -1, 3)
    ratio = np.log(centre.mean(axis=1) / whole.mean(axis=1))
    features = np.hstack([centre.std(axis=1), whole.std(axis=1), ratio])
    label = table.rows["label"].to_numpy()
    patient = table.rows["patient"].to_numpy()
    train = patient < np.median(patient)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    correct = model.fit(features[train], label[train]).predict(features[~train]) == label[~train]
    majority = np.unique(label[~train], return_counts=True)[1].max() / (~train).sum()
    assert correct.mean() > majority + 0.12
    assert correct.mean() < 0.95
    tested = pd.DataFrame(
        {"class": label[~train], "group": table.rows["group"][~train], "correct": correct}
    )
    rate = tested.groupby(["group", "class"])["correct"].mean().groupby("group").mean()
    assert rate["light"] - rate["dark"] > 0.05
