"""One section of a report: what it shows, or why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from orchestrator.pages.document import paragraph


@dataclass(frozen=True)
class Section:
    """A heading and its content.

    Attributes:
        name: for links.
        title: the heading.
        body: HTML; empty where there is nothing to show.
        missing: why there is nothing, in one sentence.
    """

    name: str
    title: str
    body: str
    missing: str | None = None

    @property
    def html(self) -> str:
        """The section; one that cannot be shown says why, so that nobody misses it."""
        content = self.body or paragraph(f"Not shown: {self.missing}.", "notice")
        return (
            f'<section id="{escape(self.name)}">\n<h2>{escape(self.title)}</h2>\n'
            f"{content}\n</section>"
        )
