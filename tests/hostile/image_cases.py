"""Tables with nothing wrong, one of whose images cannot be used."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from hostile_case import Case
from table_cases import NUM, picture, whole, words


def _png_of(width: int, height: int) -> bytes:
    """The head of a PNG that says it is so large, and next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def _image(
    name: str, says: tuple[str, ...], make: Callable[[Path], object], unprivileged: bool = False
) -> Case:
    """The fourth image of a table with nothing else wrong is made another."""

    def all_files(folder: Path) -> None:
        whole(folder)
        (folder / "3.png").unlink()
        make(folder / "3.png")

    return Case(
        f"image: {name}", words(), ("1 of 24 images", "3.png", *says), all_files, unprivileged
    )


def _bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _folder_loop(folder: Path) -> None:
    for i in range(NUM):
        (folder / f"{i}.png").write_bytes(b"no image")
    (folder / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        + "".join(
            f"l{i},i{i},{['nv', 'mel'][i % 2]},x,{20 + i},{'fe' * (i % 2)}male,arm\n"
            for i in range(NUM)
        )
    )
    os.symlink(folder, folder / "again")


WHOLE = picture()
CASES = [
    _image("empty", ("the file is empty",), _bytes(b"")),
    _image("text", ("not an image",), _bytes(b"hello\n")),
    _image("truncated JPEG", ("truncated",), _bytes(picture("JPEG")[:-300])),
    _image("truncated PNG", ("corrupt",), _bytes(picture()[:-300])),
    _image("flipped bits", ("corrupt",), _bytes(WHOLE[:45] + b"\xff" * 40 + WHOLE[85:])),
    _image(
        "40,000 x 40,000 pixels", ("too many pixels", "89478485"), _bytes(_png_of(40_000, 40_000))
    ),
    _image("2^31 pixels wide", ("3.png",), _bytes(_png_of(2**31 - 1, 2**31 - 1))),
    _image("0 pixels", ("3.png",), _bytes(_png_of(0, 0))),
    _image(
        "a PNG whose text unpacks to 1 GB",
        ("3.png",),
        _bytes(
            picture()[:33]
            + (
                lambda body: (
                    struct.pack(">I", len(body))
                    + b"zTXt"
                    + body
                    + struct.pack(">I", zlib.crc32(b"zTXt" + body))
                )
            )(b"k\0\0" + zlib.compress(b"\0" * (1 << 27)))
            + picture()[33:]
        ),
    ),
    _image("a pickle", ("not an image",), _bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")),
    _image(
        "PostScript",
        ("3.png",),
        _bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n"),
    ),
    _image(
        "SVG that names a file",
        ("not an image",),
        _bytes(b"<svg><image href='file:///etc/passwd'/></svg>"),
    ),
    _image("a ZIP that climbs out", ("not an image",), _bytes(b"PK\x03\x04" + b"../../x" * 20)),
    _image("missing", ("missing",), lambda path: None),
    _image("a folder", ("a folder",), lambda path: path.mkdir()),
    _image("a pipe", ("pipe",), lambda path: os.mkfifo(path)),
    _image("a device", ("device",), lambda path: os.symlink("/dev/zero", path)),
    _image("link to itself", ("symbolic links",), lambda path: os.symlink(path, path)),
    _image("dangling link", ("missing",), lambda path: os.symlink("/nowhere/3.png", path)),
    Case(
        "image: folders that hold themselves",
        ("data", "prepare", "{name: ham10000, root: '{}', attribute: sex}"),
        ("no images",),
        _folder_loop,
    ),
]
