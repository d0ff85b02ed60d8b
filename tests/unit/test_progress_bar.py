"""What takes a while is counted on a terminal; elsewhere nothing is said."""

import io

import pytest
from rich.console import Console

from orchestrator import progress_bar


@pytest.mark.parametrize("watched", [True, False])
def test_things_are_counted_where_somebody_watches(monkeypatch, watched):
    said = io.StringIO()
    console = Console(file=said, force_terminal=watched, width=80)
    monkeypatch.setattr(progress_bar, "stderr", console)
    assert list(progress_bar.counted("abc", 3, "letters")) == ["a", "b", "c"]
    if watched:
        assert "letters" in said.getvalue()
        assert "3/3" in said.getvalue()
    else:
        assert said.getvalue() == ""
