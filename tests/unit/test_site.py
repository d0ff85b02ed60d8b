"""The documentation site: its navigation, what it may load, and that it builds."""

import re
import shutil
from pathlib import Path
from typing import Any

import build_site
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def named(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    values = entries.values() if isinstance(entries, dict) else entries
    return [page for value in values for page in named(value)]


def test_the_navigation_names_every_page_once() -> None:
    found = sorted(str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md"))
    assert sorted(named(CONFIG["nav"])) == found


def test_the_reference_names_modules_that_exist() -> None:
    pages = [page.read_text("utf-8") for page in ROOT.glob("docs/api/*.md")]
    modules = [name for page in pages for name in re.findall(r"^::: ([\w.]+)$", page, re.M)]
    assert len(set(modules)) == len(modules) > 40
    for name in modules:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), name


def site_of(tmp_path: Path, body: str) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "cluster.yaml").write_text("a: 1\n")
    site = tmp_path / "build" / "site"
    (site / "deep").mkdir(parents=True)
    (site / "deep" / "page.html").write_text(body)
    (site / "index.html").write_text('<h1 id="top">x</h1>')
    build_site.bring_repository_files(site, docs)
    return site


def test_a_file_of_the_repository_travels_with_the_site(tmp_path: Path) -> None:
    site = site_of(tmp_path, '<a href="../../cluster.yaml"></a><a href="../index.html#top"></a>')
    assert (site / "repository" / "cluster.yaml").read_text() == "a: 1\n"
    assert '"../repository/cluster.yaml"' in (site / "deep" / "page.html").read_text()
    assert build_site.problems(site) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<a href="gone.html">x</a>', "links to gone.html, which is not in the site"),
        ('<a href="../index.html#gone">x</a>', "a heading that is not there"),
        ('<a href="../../none.yaml">x</a>', "links to ../../none.yaml, which is not"),
        ('<script src="https://a.example/b.js"></script>', "may load only its own files"),
        ('<link rel="stylesheet" href="//a.example/font.css">', "may load only its own files"),
        ('<pre class="mermaid">x</pre>', "may load only its own files"),
    ],
)
def test_what_a_page_must_not_have_is_named(tmp_path: Path, body: str, said: str) -> None:
    (problem,) = build_site.problems(site_of(tmp_path, body))
    assert problem.startswith("deep/page.html ")
    assert said in problem


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for name in ("docs", "orchestrator", "trainables", "search_spaces", "clusters", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("mkdocs.yml", "cluster.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    site, problems = build_site.build(tmp_path)
    assert problems == []
    criteria = (site / "api" / "criteria.html").read_text("utf-8")
    assert 'id="trainables.pruning.base.Criterion.scoring_order"' in criteria
    assert len(list(build_site.pages(site))) == len(named(CONFIG["nav"]))
