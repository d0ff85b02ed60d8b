"""What the documentation shows is run as it stands."""

import re
from pathlib import Path
from typing import get_args

import pytest

from orchestrator import card
from orchestrator.spaces import load_space
from trainables.conformance.criteria import CHECKS
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic, write
from trainables.metrics.fate import Tag
from trainables.registry import baselines, criteria

ROOT = Path(__file__).resolve().parents[2]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readme_s_search_space_reads_a_table_of_images(tmp_path: Path) -> None:
    write(Synthetic.Config(num_images=40, image_size=32), tmp_path / "set")
    code = python_blocks("README.md")[0]
    space = tmp_path / "mine.py"
    space.write_text(
        code.replace('path="lesions.csv"', f'path="{tmp_path / "set" / "metadata.csv"}"')
        .replace('root="images", image="file"', f'root="{tmp_path / "set"}", image="path"')
        .replace(
            'label="diagnosis", attribute="tone", patient="patient"',
            'label="label", attribute="tone_group", patient="patient_id", image_size=32',
        )
    )
    spec = load_space(f"{space}:mine")
    dataset = load_dataset(spec.data, cache_dir=tmp_path / "cache")
    assert dataset.groups == ("dark", "light")
    assert len(dataset.label_N) == 40


def test_the_example_of_a_criterion_conforms() -> None:
    (example, *_) = python_blocks("docs/extending.md")
    try:
        exec(compile(example, "extending.md", "exec"), {"__name__": "mean_activation"})
        config = criteria.get("mean_activation").Config()
        for check in CHECKS:
            check(config)
    finally:
        criteria._classes.pop("mean_activation", None)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def words(text: str) -> str:
    return " ".join(text.replace("*", " ").split())


def test_the_methods_page_has_every_built_in_baseline_and_criterion() -> None:
    page = (ROOT / "docs/methods.md").read_text("utf-8")
    before, _, after = page.partition("\n## Baselines\n")
    for registry, text in ((criteria, before), (baselines, after)):
        for name in registry._modules:
            assert f"\n| `{name}` |" in text, f"{registry.kind} {name}"


def test_the_model_card_template_says_what_written_cards_say() -> None:
    page = words((ROOT / "docs/model_card_template.md").read_text("utf-8"))
    for sentence in (*card.USE, card.FAIRNESS):
        assert words(sentence) in page
    source = (ROOT / "orchestrator/card.py").read_text("utf-8")
    headings = re.findall(r'"(## [^"]+)"', source)
    assert len(headings) == 3
    assert all(heading in page for heading in headings)


def test_the_words_for_attributes_are_those_of_cards() -> None:
    page = (ROOT / "docs/fairness_words.md").read_text("utf-8")
    assert card.attribute_name("sex") in page
    for tag in get_args(Tag):
        assert f"\n| {tag} |" in page
