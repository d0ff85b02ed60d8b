"""What fuzzing found, and what it started from, given to the parsers again."""

from pathlib import Path

import pytest
from fuzz_targets import TARGETS, feed

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for path in files:
        feed(name, path.read_bytes())
    assert sum(path.stat().st_size for path in files) < 100_000
