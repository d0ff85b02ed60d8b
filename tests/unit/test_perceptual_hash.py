"""Near-duplicates: the transform, the turns, the search, and planted copies of images."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import yaml
from PIL import Image, ImageEnhance
from typer.testing import CliRunner

from orchestrator.cli import app
from trainables.data import perceptual_hash
from trainables.data.base import SPLITS
from trainables.data.decode import decode_image
from trainables.data.load import load_dataset, parse_data
from trainables.data.perceptual_hash import (
    MAX_DISTANCE,
    NUM_BITS,
    hash_bits,
    low_frequencies,
    near_duplicate_groups,
    turned_frequencies,
)
from trainables.data.synthetic import Synthetic

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def jpeg(image: Image.Image, quality: int = 90) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


COPIES = {
    "recompressed": lambda im: jpeg(im, 60),
    "half size": lambda im: jpeg(im.resize((im.width // 2, im.height // 2))),
    "double size": lambda im: jpeg(im.resize((im.width * 2, im.height * 2))),
    "brighter": lambda im: jpeg(ImageEnhance.Brightness(im).enhance(1.15)),
    "darker": lambda im: jpeg(ImageEnhance.Brightness(im).enhance(0.8)),
    "more contrast": lambda im: jpeg(ImageEnhance.Contrast(im).enhance(1.2)),
    "more colour": lambda im: jpeg(ImageEnhance.Color(im).enhance(1.3)),
}
TURNS = {
    "mirrored": lambda im: jpeg(im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "upside down": lambda im: jpeg(im.transpose(Image.Transpose.ROTATE_180)),
    "turned": lambda im: jpeg(im.transpose(Image.Transpose.ROTATE_90)),
    "mirrored and turned": lambda im: jpeg(im.transpose(Image.Transpose.TRANSVERSE)),
}


def decoded(images: list[Image.Image], height: int, width: int) -> np.ndarray:
    out = []
    for image in images:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG")
        out.append(decode_image(buffer.getvalue(), height, width))
    return np.stack(out)


@pytest.fixture(scope="module")
def lesions() -> list[Image.Image]:
    """40 rendered lesions of 40 patients, 4:3."""
    config = Synthetic.Config(num_images=60, image_size=96, aspect=4 / 3, images_per_patient=1)
    table = Synthetic.table(config)
    first = ~table.rows["patient_id"].duplicated()
    images_NHWC = Synthetic.images(config, table)[first.to_numpy()][:40]
    return [Image.fromarray(image) for image in images_NHWC]


@pytest.mark.parametrize("shape", [(128, 171), (64, 64), (16, 21), (33, 40)])
def test_coefficients_are_those_of_scipy_s_transform(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (70, *shape, 3), dtype=np.uint8)  # more than one block
    grey_NHW = images_NHWC @ np.array([0.299, 0.587, 0.114])
    # scipy's type II sums 2 cos(...) along each axis
    expected = scipy.fft.dctn(grey_NHW, axes=(1, 2)) / (4 * shape[0] * shape[1])
    found = low_frequencies(images_NHWC)
    np.testing.assert_allclose(found, expected[:, :16, :16], atol=2e-4)
    order = sorted(np.ndindex(16, 16), key=lambda place: (sum(place), place))
    bits = np.unpackbits(hash_bits(found).view(np.uint8), axis=1)
    signs = [[image[place] > 1e-3 for place in order] for image in found]
    assert bits[:, 0].max() == 0
    np.testing.assert_array_equal(bits[:, 1:], np.array(signs)[:, 1:])
    assert bits.shape[1] == NUM_BITS + 1


@pytest.mark.parametrize("turn", range(8))
def test_turned_coefficients_are_those_of_the_turned_pixels(turn: int) -> None:
    rng = np.random.default_rng(turn)
    images_NHWC = rng.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    pixels = images_NHWC.transpose(0, 2, 1, 3) if turn & 4 else images_NHWC
    pixels = pixels[:, :, ::-1] if turn & 1 else pixels
    pixels = pixels[:, ::-1] if turn & 2 else pixels
    found = turned_frequencies(low_frequencies(images_NHWC), turn)
    np.testing.assert_allclose(found, low_frequencies(pixels), atol=2e-4)


@pytest.mark.parametrize("max_distance", [0, 5, 32])
def test_groups_are_the_components_of_a_brute_force_search(max_distance, monkeypatch) -> None:
    """200 hashes, 60 of them near another one, against all pairs with plain loops."""
    rng = np.random.default_rng(max_distance)
    bits = rng.random((200, 256)) < 0.5
    for row in range(140, 200):
        flips = rng.choice(256, rng.integers(0, 2 * max_distance + 2), replace=False)
        bits[row] = bits[rng.integers(0, row)]
        bits[row, flips] ^= True
    packed = np.packbits(bits, axis=1).view(np.uint64)
    monkeypatch.setattr(perceptual_hash, "hash_bits", lambda _: packed[_.astype(int)])
    monkeypatch.setattr(perceptual_hash, "low_frequencies", lambda images: np.arange(len(images)))
    label = np.arange(200)
    for i in range(200):
        for j in range(i):
            if (bits[i] != bits[j]).sum() <= max_distance:
                label[label == label[i]] = label[j]
    expected = [np.flatnonzero(label == one).tolist() for one in sorted(set(label.tolist()))]
    expected = sorted(group for group in expected if len(group) > 1)
    found = near_duplicate_groups(np.zeros((200, 8, 8, 3), np.uint8), max_distance)
    assert found == expected
    assert len(expected) > 10


@pytest.mark.parametrize("name", list(COPIES))
def test_copies_are_found_and_nothing_else(lesions, name: str) -> None:
    copies = [COPIES[name](image) for image in lesions]
    images_NHWC = decoded([*lesions, *copies], 96, 128)
    assert near_duplicate_groups(images_NHWC) == [[row, row + 40] for row in range(40)]


@pytest.mark.parametrize("name", list(TURNS))
def test_turned_copies_are_found_only_when_asked_for(lesions, name: str) -> None:
    copies = [TURNS[name](image) for image in lesions]
    images_NHWC = decoded([*lesions, *copies], 96, 96)
    assert near_duplicate_groups(images_NHWC) == []
    both = near_duplicate_groups(images_NHWC, turned=True)
    assert both == [[row, row + 40] for row in range(40)]


def test_a_quarter_turn_needs_square_images(lesions) -> None:
    images_NHWC = decoded([*lesions, *map(TURNS["mirrored"], lesions)], 96, 128)
    found = near_duplicate_groups(images_NHWC, turned=True)
    assert found == [[row, row + 40] for row in range(40)]


def test_plain_images_are_all_alike_and_few_images_are_no_group() -> None:
    plain = np.repeat(np.arange(0, 250, 10, dtype=np.uint8), 24 * 32 * 3).reshape(25, 24, 32, 3)
    assert near_duplicate_groups(plain) == [list(range(25))]
    assert near_duplicate_groups(plain[:1]) == []
    assert near_duplicate_groups(plain[:0]) == []


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "HAM10000_images_part_1.tar").exists(),
    reason="the HAM10000 files are not beside the repository (../shared/data)",
)
def test_real_images_of_different_lesions_are_no_group() -> None:
    rows = pd.read_csv(SHARED / "HAM10000_metadata.csv")
    lesion_of = dict(zip(rows["image_id"], rows["lesion_id"], strict=True))
    images, lesions = [], []
    with tarfile.open(SHARED / "HAM10000_images_part_1.tar") as archive:
        for member in archive:
            if member.isfile() and len(images) < 300:
                file = archive.extractfile(member)
                assert file is not None
                images.append(Image.open(io.BytesIO(file.read())).convert("RGB"))
                lesions.append(lesion_of[Path(member.name).stem])
    images_NHWC = decoded(images, 96, 128)
    groups = near_duplicate_groups(images_NHWC)
    assert all(len({lesions[row] for row in group}) == 1 for group in groups)
    first = [lesions.index(lesion) for lesion in dict.fromkeys(lesions)][:200]
    assert len(first) == 200
    for name, copy in COPIES.items():
        copies = decoded([copy(images[row]) for row in first[:30]], 96, 128)
        both = np.concatenate([images_NHWC[first], copies])
        assert near_duplicate_groups(both) == [[row, row + 200] for row in range(30)], name


def test_the_written_groups_keep_copies_in_one_split(tmp_path: Path, lesions, monkeypatch) -> None:
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    lines = []
    for number, image in enumerate([*lesions, *map(TURNS["turned"], lesions[:6])]):
        image.save(tmp_path / f"i{number:02d}.png")
        row = {"path": f"i{number:02d}.png", "label": number % 2, "sex": "fm"[number % 3 > 1]}
        lines.append(row)
    pd.DataFrame(lines).to_csv(tmp_path / "t.csv", index=False)
    data = f"{{name: table, path: {tmp_path / 't.csv'}, attribute: sex, image_size: 96}}"
    to = tmp_path / "new/same.csv"
    done = CliRunner().invoke(app, ["data", "duplicates", data, "--to", str(to), "--turned"])
    assert done.exit_code == 0, done.output
    assert "12 of 46 images" in done.output
    assert "6 groups, 6 of several patients or lesions" in done.output
    shown = [line.split(" = ") for line in done.output.splitlines() if " = " in line]
    assert {tuple(part.split()[0] for part in line) for line in shown} == {
        (f"i{n:02d}", f"i{n + 40}") for n in range(6)
    }
    options = ["--to", str(to), "--turned", "--json"]
    document = json.loads(CliRunner().invoke(app, ["data", "duplicates", data, *options]).stdout)
    plain = load_dataset(parse_data(yaml.safe_load(data)))
    splits = [SPLITS[split] for split in plain.split_N]
    expected = [
        [
            {"image_id": f"i{k:02d}", "patient_id": f"i{k:02d}", "label": str(k % 2),
             "split": splits[k]}
            for k in (n, n + 40)
        ]
        for n in range(6)
    ]  # fmt: skip
    assert document["groups"] == expected
    parted = sum(splits[n] != splits[n + 40] for n in range(6))
    assert document["num_groups_across_splits"] == parted > 0
    first = [f"{i['image_id']} ({i['split']}, {i['label']})" for i in next(
        group for group in expected if group[0]["split"] != group[1]["split"])]  # fmt: skip
    assert [part.strip() for part in shown[0]] == first
    written = pd.read_csv(to)
    assert written.columns.tolist() == ["image_id", "group"]
    pairs = written.groupby("group")["image_id"].apply(list).to_dict()
    assert pairs == {f"i{n:02d}": [f"i{n:02d}", f"i{n + 40}"] for n in range(6)}
    config = parse_data(
        {
            "name": "table",
            "path": str(tmp_path / "t.csv"),
            "attribute": "sex",
            "image_size": 96,
            "duplicates": str(to),
        }
    )
    dataset = load_dataset(config)
    for number in range(6):
        assert dataset.split_N[number] == dataset.split_N[number + 40]
        assert dataset.patient_id_N[number] == dataset.patient_id_N[number + 40]
    assert MAX_DISTANCE == 32
