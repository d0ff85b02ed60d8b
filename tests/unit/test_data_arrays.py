import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.array_file import open_array, write_array
from trainables.data.arrays import build_array
from trainables.data.base import DataConfig, Table
from trainables.data.content_index import file_digests
from trainables.errors import UserError


class Calls:
    """Remembers what a progress bar would have been told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


def config(size: int = 8, aspect: float = 1.0) -> DataConfig:
    return DataConfig(name="any", attribute="sex", image_size=size, aspect=aspect)


def write_images(folder: Path, num: int = 5, seed: int = 0) -> list[Path]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(num):
        path = folder / f"image_{number}.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def table_of(paths: list[Path]) -> Table:
    rows = pd.DataFrame({"image_id": [path.stem for path in paths], "path": list(map(str, paths))})
    return Table(rows, (), ())


def settle(paths: list[Path]) -> None:
    """Date files back, as files that were not written this second."""
    for path in paths:
        os.utime(path, (1_600_000_000, 1_600_000_000))


def test_array_holds_the_pixels_in_row_order_and_is_read_only(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in", num=300)[::-1]  # more than one block
    calls = Calls()
    array, digest = build_array(
        table_of(paths), config(), cache_dir=tmp_path / "cache", workers=3, progress=calls
    )
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_array_equal(array, expected)
    assert calls.seen == [(done, 300) for done in range(1, 301)]
    assert len(digest) == 64
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_second_start_decodes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in")
    first, digest = build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "arrays").iterdir()
    before, calls = file.stat(), Calls()
    second, again = build_array(
        table_of(paths), config(), cache_dir=tmp_path / "cache", progress=calls
    )
    assert calls.seen == []
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert again == digest
    np.testing.assert_array_equal(first, second)


def test_key_follows_pixels_order_and_geometry_but_not_names(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    paths = write_images(tmp_path / "in")
    digest = build_array(table_of(paths), config(), cache_dir=cache)[1]
    moved = write_images(tmp_path / "elsewhere")
    assert build_array(table_of(moved), config(), cache_dir=cache)[1] == digest
    others = {
        build_array(table_of(paths[::-1]), config(), cache_dir=cache)[1],
        build_array(table_of(paths), config(size=10), cache_dir=cache)[1],
        build_array(table_of(paths), config(aspect=1.5), cache_dir=cache)[1],
    }
    Image.new("RGB", (8, 8), "red").save(moved[2])
    changed, changed_digest = build_array(table_of(moved), config(), cache_dir=cache)
    assert len(others | {digest, changed_digest}) == 5
    assert (changed[2] == (255, 0, 0)).all()


def test_aspect_sets_the_width(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in", num=1)
    array, _ = build_array(table_of(paths), config(128, 4 / 3), cache_dir=tmp_path / "cache")
    assert array.shape == (1, 128, 171, 3)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "header", "trailer"])
def test_a_damaged_cache_file_is_built_anew(tmp_path: Path, damage: str) -> None:
    paths = write_images(tmp_path / "in")
    expected = np.array(build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")[0])
    (file,) = (tmp_path / "cache" / "arrays").iterdir()
    data = bytearray(file.read_bytes())
    if damage == "truncate":
        data = data[:-200]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data = bytearray()
    elif damage == "header":
        data[20] ^= 0xFF
    else:
        data[-1] ^= 1
    file.write_bytes(data)
    calls = Calls()
    array, _ = build_array(table_of(paths), config(), cache_dir=tmp_path / "cache", progress=calls)
    assert len(calls.seen) == 5
    np.testing.assert_array_equal(array, expected)


def test_all_unusable_images_are_in_one_error(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in", num=40)
    paths[3].unlink()
    paths[7].write_bytes(b"")
    paths[9].write_bytes(paths[9].read_bytes()[:100])
    paths[11].write_text("no image")
    (tmp_path / "in" / "folder.png").mkdir()
    paths[12] = tmp_path / "in" / "folder.png"
    with pytest.raises(UserError) as caught:
        build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith("5 of 40 images cannot be used: ")
    assert "image_3.png: missing" in message
    assert "image_7.png: the file is empty" in message
    assert "image_9.png: corrupt" in message
    assert "image_11.png: not an image" in message
    assert "folder.png: cannot be read (a folder, not a file)" in message
    assert "\n" not in message
    assert not list((tmp_path / "cache").rglob("*.npy"))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_corrupt_images_alone_are_reported_and_leave_no_file(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in", num=600)  # three blocks, damage in the first and last
    for number in (1, 599):
        paths[number].write_text("no image")
    with pytest.raises(UserError, match=r"2 of 600.*image_1\.png: not.*image_599\.png: not"):
        build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "arrays").iterdir())


def test_only_the_first_twenty_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"gone_{number:02d}.png" for number in range(30)]
    with pytest.raises(UserError, match=r"gone_19\.png: missing; and 10 more$"):
        build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")


def test_bytes_column(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in")
    contents = [path.read_bytes() for path in paths]
    rows = pd.DataFrame({"image_id": list("abcde"), "bytes": contents})
    array, digest = build_array(Table(rows, (), ()), config(), cache_dir=tmp_path / "cache")
    expected, same = build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(array, expected)
    assert digest == same
    rows = pd.DataFrame({"image_id": list("abcde"), "bytes": [*contents[:4], b"junk"]})
    with pytest.raises(UserError, match="1 of 5 images cannot be used: e: not an image"):
        build_array(Table(rows, (), ()), config(), cache_dir=tmp_path / "cache")


def test_index_answers_without_reading_and_notices_changes(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in")
    names = [str(path) for path in paths]
    settle(paths)
    time.sleep(2.1)  # the change time cannot be dated back
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert file_digests(names, tmp_path, 2) == (expected, {})
    (index,) = (tmp_path / "index").iterdir()
    # An index that lies is believed for unchanged files, which shows that they are not read again.
    index.write_text(index.read_text().replace(expected[0], "0" * 64))
    assert file_digests(names, tmp_path, 2)[0] == ["0" * 64, *expected[1:]]
    stamp = paths[0].stat()
    data = bytearray(paths[0].read_bytes())
    data[-1] ^= 1
    paths[0].write_bytes(data)  # same size and, restored, the same modification time
    os.utime(paths[0], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file_digests(names, tmp_path, 2)[0][0] == hashlib.sha256(data).hexdigest()
    index.write_text("{ damaged")
    assert file_digests(names, tmp_path, 2)[0][1:] == expected[1:]


def test_a_file_unlike_its_digest_is_refused_once_and_read_anew(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in")
    cache = tmp_path / "cache"
    time.sleep(2.1)
    right = file_digests([str(path) for path in paths], cache, 2)[0][2]
    assert right is not None
    (index,) = (cache / "index").iterdir()
    index.write_text(index.read_text().replace(right, "0" * 64))
    with pytest.raises(UserError, match=r"1 of 5 .*image_2\.png: changed while"):
        build_array(table_of(paths), config(), cache_dir=cache)
    array, _ = build_array(table_of(paths), config(), cache_dir=cache)
    np.testing.assert_array_equal(array[2], np.asarray(Image.open(paths[2])))


def test_concurrent_builders_agree(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in", num=60)
    found: list[np.ndarray] = []

    def build() -> None:
        found.append(build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")[0])

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert len(found) == 4
    for array in found:
        np.testing.assert_array_equal(array, expected)
    assert [path.suffix for path in (tmp_path / "cache" / "arrays").iterdir()] == [".npy"]


def test_unusable_cache_folder_is_the_users_mistake(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in")
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot write the image cache.*FATEFRONT_CACHE"):
        build_array(table_of(paths), config(), cache_dir=tmp_path / "cache")


def test_array_file_reads_with_numpy_and_refuses_wrong_blocks(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    path = tmp_path / "a.npy"
    write_array(path, (4, 2, 3), iter([rows[:3], rows[3:]]))
    np.testing.assert_array_equal(np.load(path), rows)
    np.testing.assert_array_equal(open_array(path, (4, 2, 3)), rows)
    assert open_array(path, (2, 4, 3)) is None
    assert open_array(tmp_path / "none.npy", (4, 2, 3)) is None
    with pytest.raises(ValueError, match="3 rows were written, 4 announced"):
        write_array(tmp_path / "b.npy", (4, 2, 3), [rows[:3]])
    assert not (tmp_path / "b.npy").exists()


def test_left_overs_of_killed_writers_are_removed_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ".x.npy.1.tmp", tmp_path / ".y.npy.2.tmp"
    old.write_bytes(b"x")
    new.write_bytes(b"y")
    settle([old])
    write_array(tmp_path / "a.npy", (1, 1), [np.zeros((1, 1), np.uint8)])
    assert not old.exists()
    assert new.exists()
