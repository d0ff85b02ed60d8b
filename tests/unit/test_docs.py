"""What the documentation shows is run as it stands."""

import re
from pathlib import Path

import pytest

from orchestrator.spaces import load_space
from trainables.conformance.criteria import CHECKS
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic, write
from trainables.registry import criteria

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
