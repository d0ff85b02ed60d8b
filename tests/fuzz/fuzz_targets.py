"""The parsers of what users and strangers write, each as a function of bytes.

A target may refuse its bytes as users are refused; anything else that it raises is a fault.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile
from zlib import error as ZlibError

from orchestrator.cluster.yaml_file import YamlFile
from orchestrator.evaluation.prediction_table import Columns, read_predictions
from orchestrator.ledger.environments import of_nodes, starts
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import read_events
from orchestrator.spaces import load_space
from orchestrator.tables.published import read_blocks
from search_spaces.words import enumerate_all, grid_size, is_finite, plain, to_yaml
from trainables.checkpoint import CheckpointError, unpack
from trainables.data.columns import read_table
from trainables.data.decode import DecodeError, decode_image
from trainables.data.image_lists import read_groups, read_list
from trainables.errors import UserError
from trainables.portable import read_card
from trainables.predictions import Predictions
from trainables.store import node_text, parse_node
from trainables.yaml_text import parse_yaml

FOLDER = Path(tempfile.mkdtemp(prefix="fatefront-fuzz-"))
LISTED = 10_000


def _file(data: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def _yaml(data: bytes) -> None:
    parse_yaml(data.decode("utf-8", "replace"), "fuzz")


def _words(data: bytes) -> None:
    """A template that reads reads again from what it is written as, and lists what it counts."""
    template = plain(parse_yaml(data.decode("utf-8", "replace"), "fuzz"))
    assert plain(to_yaml(template)) == template or "nan" in repr(template)
    if is_finite(template) and grid_size(template) <= LISTED:
        assert len(list(enumerate_all(template))) == grid_size(template)


def _space(data: bytes) -> None:
    spec = load_space(str(_file(data, "s.yaml")))
    again = load_space(str(_file(spec.to_yaml().encode(), "again.yaml")))
    assert again == spec


def _override(data: bytes) -> None:
    load_space("quickstart", [data.decode("utf-8", "replace")])


def _table(data: bytes) -> None:
    read_table(_file(data, "t.csv"))


def _parquet(data: bytes) -> None:
    read_table(_file(b"PAR1" + data, "t.parquet"))


def _lists(data: bytes) -> None:
    for name in ("l.txt", "l.csv"):
        for read in (read_list, read_groups):
            try:
                read(_file(data, name))
            except UserError:
                continue


def _predictions(data: bytes) -> None:
    columns = Columns("y_true", "y_pred", ("group",), None, ("p_0", "p_1"))
    for asked in (False, True):
        read_predictions(_file(data, "p.csv"), columns, probabilities=asked)


def _printed(data: bytes) -> None:
    read_blocks(_file(data, "a.csv"))


def _image(data: bytes) -> None:
    assert decode_image(data, 16, 16).shape == (16, 16, 3)


def _card(data: bytes) -> None:
    _file(data, "model.json")
    read_card(FOLDER)


def _stored(data: bytes) -> None:
    Predictions.from_bytes(data)


def _cluster(data: bytes) -> None:
    YamlFile(_file(data, "c.yaml"))


KEY = "ab" * 16


def _node(data: bytes) -> None:
    """As it is, and with the checksum that whoever may write into a store can make."""
    forged = data
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(data)
        if isinstance(content, dict):
            forged = node_text(content | {"key": KEY})
    for text in (data, forged):
        node = parse_node(KEY, text)
        for entry in node["files"].values() if node is not None else ():
            path = PurePosixPath("/store/node") / entry["path"]
            assert ".." not in path.parts
            assert path.is_relative_to("/store/node")


def _ledger(data: bytes) -> None:
    _file(data, "events.jsonl")
    events = list(read_events(FOLDER))
    starts(events)
    of_nodes(events, {})


def _manifest(data: bytes) -> None:
    _file(data, "manifest.json")
    read_manifest(FOLDER)


def _checkpoint(data: bytes) -> None:
    for content in (data, hashlib.sha256(data).hexdigest().encode() + b"\n" + data):
        with contextlib.suppress(CheckpointError):
            unpack(content)


Refusals = tuple[type[Exception], ...]
TARGETS: dict[str, tuple[Callable[[bytes], None], Refusals]] = {
    "yaml": (_yaml, (UserError,)),
    "words": (_words, (UserError,)),
    "space": (_space, (UserError,)),
    "override": (_override, (UserError,)),
    "table": (_table, (UserError,)),
    "parquet": (_parquet, (UserError,)),
    "lists": (_lists, (UserError,)),
    "predictions": (_predictions, (UserError,)),
    "printed": (_printed, (UserError,)),
    "image": (_image, (DecodeError,)),
    "card": (_card, (UserError,)),
    # of our own making and guarded by a digest before it comes here: it may be refused anyhow
    "stored": (_stored, (ValueError, KeyError, EOFError, OSError, BadZipFile, ZlibError,
                         NotImplementedError, RuntimeError)),
    "cluster": (_cluster, (UserError,)),
    "node": (_node, ()),
    "ledger": (_ledger, (UserError,)),
    "manifest": (_manifest, (UserError,)),
    "checkpoint": (_checkpoint, ()),
}  # fmt: skip


def feed(name: str, data: bytes) -> None:
    """Give bytes to a target.

    Raises:
        Exception: whatever the target raises that is no refusal.
    """
    function, refusals = TARGETS[name]
    try:
        function(data)
    except refusals:
        return
