"""What the documentation shows is run as it stands."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from fake_sweep import FakeSweep, fake_spec
from PIL import Image

from orchestrator import card
from orchestrator.fronts.front import sweep_front
from orchestrator.spaces import load_space
from search_spaces.objectives import objectives
from search_spaces.sweep_spec import Search
from trainables.baselines.base import Batch, Task
from trainables.conformance.baselines import CHECKS as BASELINE_CHECKS
from trainables.conformance.criteria import CHECKS
from trainables.data.load import load_dataset, parse_data
from trainables.data.synthetic import Synthetic, write
from trainables.errors import UserError
from trainables.metrics.fate import Tag
from trainables.registry import baselines, criteria, datasets

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES = (baselines, criteria, datasets, objectives)


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


@pytest.fixture
def written() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Runs the block of docs/extending.md that is a file of this name; forgets its part again."""
    before = {registry: dict(registry._classes) for registry in REGISTRIES}

    def run(file: str) -> dict[str, Any]:
        blocks = python_blocks("docs/extending.md")
        (block,) = [text for text in blocks if text.startswith(f"# {file}.py in your own package")]
        names: dict[str, Any] = {"__name__": file}
        exec(compile(block, f"{file}.py", "exec"), names)
        return names

    yield run
    for registry, classes in before.items():
        registry._classes = classes


def test_every_example_of_a_part_is_tested() -> None:
    blocks = python_blocks("docs/extending.md")
    files = re.findall(r"^# (\w+)\.py in your own package$", "\n".join(blocks), re.M)
    source = Path(__file__).read_text("utf-8")
    assert len(files) == 4
    assert all(f'written("{file}")' in source for file in files)
    groups = re.findall(r'"(fatefront\.\w+)"\]', (ROOT / "docs/extending.md").read_text("utf-8"))
    assert set(groups) == {registry.group for registry in REGISTRIES}


def test_the_example_of_a_criterion_conforms(written) -> None:
    written("mean_activation")
    for check in CHECKS:
        check(criteria.get("mean_activation").Config())


def test_the_example_of_a_baseline_conforms_and_is_what_it_says(written) -> None:
    cls = written("equal_groups")["EqualGroups"]
    for check in BASELINE_CHECKS:
        check(cls.Config())
    logits_NK = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    label_N, group_N = torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0, 0, 0, 1, -1])
    batch = Batch(torch.zeros(5, 3, 8, 8), label_N, group_N, 0.0)
    found = cls(cls.Config(), Task(3, 2)).loss(lambda image_NCHW: logits_NK, batch)
    loss_N = -logits_NK.log_softmax(1)[range(5), label_N]
    expected = (loss_N[:3].mean() + loss_N[3] + loss_N[4]) / 3
    torch.testing.assert_close(found, expected)


def test_the_example_of_a_data_set_reads_images(written, tmp_path: Path) -> None:
    written("per_class_folders")
    for number in range(24):
        tone = ("dark", "light", "unknown")[number % 3]
        file = tmp_path / ("mel", "nv")[number % 2] / f"p{number // 2}_{tone}_{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 16), (number, 0, 0)).save(file)
    config = parse_data({"name": "per_class_folders", "root": str(tmp_path), "image_size": 16})
    found = load_dataset(config, cache_dir=tmp_path / "cache")
    assert (found.classes, found.groups) == (("mel", "nv"), ("dark", "light"))
    assert found.images_NHWC.shape == (24, 16, 16, 3)
    assert (found.group_N == -1).sum() == 8
    for patient in set(found.patient_id_N):
        assert len(set(found.split_N[found.patient_id_N == patient])) == 1
    (tmp_path / "nv" / "odd.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"odd\.png"):
        load_dataset(config, cache_dir=tmp_path / "cache")


def test_the_example_of_an_objective_orders_a_front(written, tmp_path: Path) -> None:
    written("recall_gap")
    fake = FakeSweep(tmp_path / "sweep")
    search = Search(sampler="grid", objectives=("recall_gap", "f1"), max_f1_loss=None)
    spec = fake_spec(search=search)
    schedule = fake.run(spec)
    front = sweep_front(schedule.records, spec)
    fake.ledger.close()
    best = front.members[0]
    gaps = []
    for key in best.aggregate.keys:
        groups = schedule.records[key]["result"]["metrics"]["validation"]["groups"].values()
        recalls = [group["recall"] for group in groups]
        gaps.append(max(recalls) - min(recalls))
    assert best.values[0] == pytest.approx(sum(gaps) / len(gaps))
    assert best.values[0] == min(m.values[0] for m in (*front.members, *front.dominated))


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
