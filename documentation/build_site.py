"""Build the documentation site, with warnings as errors, and check what came out.

    python documentation/build_site.py

Zensical checks links between pages. This adds what it does not: files of the repository that a
page links to travel with the site, every link and picture of the finished pages exists, and no
page loads anything from elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY_FILES = "repository"
"""Folder of the site with the files of the repository that pages link to."""


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        if "id" in found:
            self.names.add(found["id"])
        if "mermaid" in found.get("class", "").split():
            self.loaded.add("https://the-script-that-draws-mermaid-diagrams")
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.add(found.get("href", ""))
        elif "src" in found:
            self.loaded.add(found["src"])


@cache
def addresses(page: Path) -> _Addresses:
    """What a finished page links to (``links``), loads (``loaded``) and names (``names``)."""
    parser = _Addresses()
    parser.feed(page.read_text("utf-8"))
    return parser


def pages(site: Path) -> Iterator[Path]:
    """The finished pages, but for the one of missing pages, whose addresses are a server's."""
    yield from (page for page in sorted(site.rglob("*.html")) if page.name != "404.html")


def bring_repository_files(site: Path, docs: Path) -> None:
    """Copy files outside ``docs`` that pages link to into the site, and lead the links there.

    Links to what does not exist are left for ``problems``.
    """
    for page in pages(site):
        text = page.read_text("utf-8")
        for link in addresses(page).links:
            parts = urlsplit(link)
            from_site = os.path.relpath(page.parent / unquote(parts.path), site)
            if parts.scheme or not parts.path or not from_site.startswith(".."):
                continue
            source = (docs / from_site).resolve()
            if not source.is_file() or not source.is_relative_to(docs.parent):
                continue
            copy = site / REPOSITORY_FILES / source.relative_to(docs.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            text = text.replace(f'href="{link}"', f'href="{os.path.relpath(copy, page.parent)}"')
        page.write_text(text, "utf-8")
    addresses.cache_clear()


def problems(site: Path) -> list[str]:
    """One line for each dead link, and for each thing that a page loads from elsewhere."""
    found = []
    for page in pages(site):
        place = page.relative_to(site)
        for address in sorted(addresses(page).links | addresses(page).loaded):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in addresses(page).loaded and parts.scheme != "data":
                    found.append(f"{place} loads {address}: a page may load only its own files")
                continue
            target = page.parent / unquote(parts.path) if parts.path else page
            if not target.exists():
                found.append(f"{place} links to {address}, which is not in the site")
            elif (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in addresses(target.resolve()).names
            ):
                found.append(f"{place} links to {address}, a heading that is not there")
    return found


def build(root: Path = ROOT) -> tuple[Path, list[str]]:
    """Build ``root``'s site anew; returns its folder, ``build/site``, and the problems found.

    Raises:
        subprocess.CalledProcessError: a warning of the generator, which has printed it.
    """
    site = root / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    subprocess.run(command, cwd=root, check=True)
    bring_repository_files(site, root / "docs")
    return site, problems(site)


def main() -> int:
    """Build, and say on stderr what is wrong; 1 where something is."""
    site, found = build()
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{len(list(pages(site)))} pages in {site.relative_to(ROOT)}, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
