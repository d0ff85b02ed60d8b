"""Files that are no space: not YAML, too much of it, or no file at all."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from hostile_case import Case, text
from space_cases import SPACE

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
"""A billion strings, should anything walk it."""


def _raw(name: str, content: str | bytes, *says: str) -> Case:
    return Case(f"yaml: {name}", ("show", "{}/s.yaml"), ("s.yaml", *says), text("s.yaml", content))


def _loop(folder: Path) -> None:
    os.symlink(folder / "s.yaml", folder / "s.yaml")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "s.yaml")


def _locked(folder: Path) -> None:
    (folder / "s.yaml").write_text(yaml.safe_dump(SPACE))
    (folder / "s.yaml").chmod(0)


CASES = [
    _raw("empty", "", "mapping"),
    _raw("a list", "- 1\n- 2\n", "mapping", "list"),
    _raw("not UTF-8", "name: M\xfcller\n".encode("latin-1"), "UTF-8"),
    _raw("NUL bytes", b"name: a\x00b\n", "not YAML"),
    _raw("control character", b"name: a\x1bb\n", "not YAML"),
    _raw(
        "tag that runs code", "!!python/object/apply:os.system ['touch pwned']\n", "python/object"
    ),
    _raw("tag in a field", "name: !!python/name:os.system\n", "python/name"),
    _raw("unknown tag", "name: !env HOME\n", "!env"),
    _raw("anchor bomb", BOMB, "anchor"),
    _raw("anchor that holds itself", "data: &a\n  name: *a\n", "anchor"),
    _raw("nested 1000 deep", "data: " + "[" * 1000 + "]" * 1000 + "\n", "deep"),
    _raw("mapping nested 1000 deep", "data: " + "{a: " * 1000 + "1" + "}" * 1000 + "\n", "deep"),
    _raw("a key twice", "name: a\nname: b\n", "name", "twice"),
    _raw("two documents", "a: 1\n---\nb: 2\n", "not YAML"),
    _raw("unclosed", "data: {name: synthetic\n", "not YAML", "line"),
    _raw("keys that are no names", "1: 2\n[a]: 3\n", "s.yaml"),
    _raw("integer of 5,000 digits", "seeds: [" + "9" * 5000 + "]\n", "s.yaml"),
    _raw("16 MB of text", "name: " + "a" * (16 << 20) + "\n", "MB"),
    _raw("date that is none", "name: 2020-13-45\n", "not YAML"),
    Case("yaml: not there", ("show", "{}/absent.yaml"), ("absent.yaml", "no such file")),
    Case(
        "yaml: a folder",
        ("show", "{}/s.yaml"),
        ("s.yaml", "folder"),
        lambda folder: (folder / "s.yaml").mkdir(),
    ),
    Case(
        "yaml: link to itself",
        ("show", "{}/s.yaml"),
        ("s.yaml", "Too many levels of symbolic links"),
        _loop,
    ),
    Case("yaml: a pipe", ("show", "{}/s.yaml"), ("s.yaml", "no ordinary file"), _fifo),
    Case(
        "yaml: a device",
        ("show", "{}/s.yaml"),
        ("s.yaml", "no ordinary file"),
        lambda folder: os.symlink("/dev/zero", folder / "s.yaml"),
    ),
    Case(
        "yaml: may not be read",
        ("show", "{}/s.yaml"),
        ("s.yaml", "Permission denied"),
        _locked,
        unprivileged=True,
    ),
    _raw("environment in a value", yaml.safe_dump(SPACE | {"name": "$HOME"}), "name", "'$HOME'"),
]
