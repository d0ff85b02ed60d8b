"""Command lines that cannot be carried out, and folders of sweeps that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hostile_case import Case

RUN = ("run", "quickstart", "--out", "{}/s", "--tracking-uri", "none")
MANIFEST = {
    "store": "/nowhere", "data": {}, "mode": "corrected", "backbone": {}, "sweep": "s",
    "sweep_id": "0" * 16,
}  # fmt: skip


def _run(name: str, says: tuple[str, ...], *options: str) -> Case:
    return Case(f"run: {name}", (*RUN, *options), says)


def _sweep(name: str, says: tuple[str, ...], verb: tuple[str, ...], **files: str | bytes) -> Case:
    def make(folder: Path) -> None:
        (folder / "s").mkdir()
        for file, content in files.items():
            path = folder / "s" / file.replace("_", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return Case(f"sweep: {name}", verb, says, make)


EMPTY = [
    _sweep(f"{verb[0]} of an empty folder", ("no sweep", "manifest.json"), verb)
    for verb in (
        ("status", "{}/s"),
        ("export", "{}/s", "--to", "{}/front"),
        ("report", "{}/s"),
        ("tables", "{}/s"),
        ("merge", "{}/s", "--out", "{}/m"),
    )
]
DAMAGED = [
    _sweep(f"{verb[0]}, manifest {what}", ("manifest.json",), verb, manifest_json=content)
    for verb in (
        ("status", "{}/s"),
        ("report", "{}/s"),
        ("tables", "{}/s"),
        ("export", "{}/s", "--to", "{}/front"),
    )
    for what, content in (
        ("not JSON", "{"),
        ("not UTF-8", b"\xff"),
        ("a list", "[]"),
        ("empty", ""),
        ("of nothing", "{}"),
        ("nested 100,000 deep", "[" * 100_000),
    )
]
CASES = [
    Case("command: unknown verb", ("rum",), ("rum",)),
    Case("command: unknown option", ("plan", "quickstart", "--seeds", "3"), ("--seeds",)),
    Case("command: no argument", ("plan",), ("missing argument", "space")),
    Case("command: as JSON", ("plan", "quikstart", "--json"), ("'quickstart'",)),
    _run("workers 0", ("--workers", "0"), "--workers", "0"),
    _run("workers negative", ("--workers", "-1"), "--workers", "-1"),
    _run("workers huge", ("--workers", "1000000"), "--workers", "1000000"),
    _run("workers are text", ("--workers", "'many'"), "--workers", "many"),
    _run("trials 0", ("--trials", "0"), "--trials", "0"),
    _run("trials of 400 digits", ("--trials", "at most 1000000000"), "--trials", "9" * 400),
    _run("hours NaN", ("--hours", "nan"), "--hours", "nan"),
    _run("hours infinite", ("--hours", "inf"), "--hours", "inf"),
    _run("hours negative", ("--hours", "-1"), "--hours", "-1"),
    _run("GPUs 1.5", ("1.5",), "--gpus-per-trial", "1.5"),
    _run("GPUs NaN", ("nan",), "--gpus-per-trial", "nan"),
    _run("GPUs negative", ("-1",), "--gpus-per-trial", "-1"),
    _run("disk NaN", ("--max-disk", "nan"), "--max-disk", "nan"),
    _run("cache negative", ("--cache-gb", "-1"), "--cache-gb", "-1"),
    _run("seed negative", ("seed", "-1"), "--seed", "-1"),
    _run("store of unknown kind", ("--store", "gopher"), "--store", "gopher://x"),
    _run("store is a file", ("--store", "not a folder"), "--store", "/etc/passwd"),
    _run("store with NUL", ("--store", "null character"), "--store", "a\0b"),
    _run("tracking in a folder", ("--tracking-uri", "mlruns"), "--tracking-uri", "mlruns"),
    _run(
        "tracking with a password",
        ("--tracking-uri", "password"),
        "--tracking-uri",
        "http://u:geheim@127.0.0.1:9",
    ),
    _run("Ray Client", ("--address", "ray://"), "--address", "ray://x:1"),
    Case(
        "run: folder is a file",
        ("run", "quickstart", "--out", "{}/f/s"),
        ("--out", "not a folder"),
        lambda f: (f / "f").touch(),
    ),
    Case(
        "run: folder may not be written",
        ("run", "quickstart", "--out", "{}/l/s"),
        ("--out", "cannot be written"),
        lambda f: (f / "l").mkdir(mode=0o555),
        unprivileged=True,
    ),
    Case(
        "run: folder is a link to itself",
        ("run", "quickstart", "--out", "{}/l/s"),
        ("--out",),
        lambda f: os.symlink(f / "l", f / "l"),
    ),
    Case(
        "run: folder's name too long",
        ("run", "quickstart", "--out", "{}/" + "a" * 300),
        ("--out", "too long"),
    ),
    Case(
        "run: NUL in the folder's name",
        ("run", "quickstart", "--out", "{}/a\0b"),
        ("--out", "null"),
    ),
    Case("status: not there", ("status", "{}/absent"), ("absent",)),
    Case("trial: not there", ("trial", "{}/t.yaml"), ("t.yaml", "no such file")),
    Case(
        "trial: a list",
        ("trial", "{}/t.yaml"),
        ("t.yaml", "data"),
        lambda f: (f / "t.yaml").write_text("[1]"),
    ),
    Case(
        "trial: unknown device",
        ("trial", "{}/t.yaml", "--device", "tpu"),
        ("--device", "'tpu'"),
        lambda f: (f / "t.yaml").write_text("data: {name: synthetic}\n"),
    ),
    Case(
        "trial: data are text",
        ("trial", "{}/t.yaml"),
        ("data", "mapping"),
        lambda f: (f / "t.yaml").write_text("data: synthetic\n"),
    ),
    Case(
        "trial: tag",
        ("trial", "{}/t.yaml"),
        ("t.yaml", "python/name"),
        lambda f: (f / "t.yaml").write_text("data: !!python/name:os.system\n"),
    ),
    Case("trial: a device", ("trial", "/dev/zero"), ("/dev/zero", "device")),
    Case(
        "synthesize: images 0",
        ("data", "synthesize", "{}/x", "--set", "num_images=0"),
        ("num_images", "0"),
    ),
    Case("synthesize: unknown dial", ("data", "synthesize", "{}/x", "--set", "nmu=0"), ("nmu",)),
    Case(
        "synthesize: into a file",
        ("data", "synthesize", "{}/x/y"),
        ("x",),
        lambda f: (f / "x").touch(),
    ),
    Case("fetch: unknown set", ("data", "fetch", "ham1000"), ("'ham10000'",)),
    Case("fetch: name that climbs out", ("data", "fetch", "../x"), ("'../x'",)),
    Case(
        "duplicates: distance negative",
        ("data", "duplicates", "quickstart", "--to", "{}/d.csv", "--max-distance", "-1"),
        ("distance", "-1"),
    ),
    Case("cluster: a device", ("cluster", "check", "/dev/zero"), ("/dev/zero",)),
    Case(
        "cluster: nested 1000 deep",
        ("cluster", "check", "{}/c.yaml"),
        ("c.yaml", "deep"),
        lambda f: (f / "c.yaml").write_text("a: " + "[" * 1000 + "]" * 1000),
    ),
    Case(
        "cluster: tag",
        ("cluster", "check", "{}/c.yaml"),
        ("c.yaml", "python/name"),
        lambda f: (f / "c.yaml").write_text("a: !!python/name:os.system\n"),
    ),
    Case(
        "server: no loopback, no password",
        ("server", "--host", "0.0.0.0", "--folder", "{}/x"),
        ("0.0.0.0", "MLFLOW_AUTH_ADMIN_PASSWORD"),
    ),
    Case(
        "server: port 99999", ("server", "--port", "99999", "--folder", "{}/x"), ("port", "99999")
    ),
    Case(
        "report: unknown split",
        ("report", "{}/s", "--split", "tset"),
        ("'tset'",),
        lambda f: [
            (f / "s").mkdir(),
            (f / "s" / "manifest.json").write_text(json.dumps(MANIFEST)),
        ],
    ),
    Case(
        "tables: unknown format",
        ("tables", "{}/s", "--format", "pdf"),
        ("'pdf'", "latex"),
        lambda f: [
            (f / "s").mkdir(),
            (f / "s" / "manifest.json").write_text(json.dumps(MANIFEST)),
        ],
    ),
    *EMPTY,
    *DAMAGED,
]
