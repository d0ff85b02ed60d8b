"""What `evaluate` adds to its figures, against scikit-learn, hand counts and simulation."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from orchestrator.evaluation.evaluate import evaluate_file
from trainables.errors import UserError
from trainables.metrics.calibration import auroc_replicates
from trainables.metrics.clinical import threshold_at_specificity, underdiagnosis
from trainables.metrics.floor import permutation_floor

CLASSES = ("bcc", "mel", "nv")


def table(seed: int, num: int = 240) -> pd.DataFrame:
    """Predictions of one seed on the same images: better for the larger group."""
    fixed = np.random.default_rng(0)
    label = fixed.choice(3, num, p=[0.3, 0.3, 0.4])
    frame = pd.DataFrame(
        {
            "image": [f"i{n}" for n in range(num)],
            "y_true": np.array(CLASSES)[label],
            "tone": fixed.choice(["light", "dark"], num, p=[0.7, 0.3]),
            "sex": fixed.choice(["f", "m"], num),
            "patient": fixed.integers(0, num // 2, num),
        }
    )
    rng = np.random.default_rng(seed + 1)
    probability = rng.dirichlet([1, 1, 1], num)
    probability[np.arange(num), label] += np.where(frame["tone"] == "dark", 0.3, 0.7)
    probability /= probability.sum(1, keepdims=True)
    frame["y_pred"] = np.array(CLASSES)[probability.argmax(1)]
    for number, name in enumerate(CLASSES):
        frame[f"p_{name}"] = probability[:, number]
    return frame


def write(path, frame):
    frame.to_csv(path, index=False)
    return path


def test_weighted_auroc_is_scikit_learns():
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 3, 90), rng.dirichlet([1, 1, 1], 90).round(2)
    weight = rng.multinomial(90, np.full(90, 1 / 90), size=5).T.astype(float)
    wanted = [
        np.mean([roc_auc_score(label == c, probability[:, c], sample_weight=w) for c in range(3)])
        for w in weight.T
    ]
    np.testing.assert_allclose(auroc_replicates(label, probability, weight), wanted, atol=1e-9)


def test_threshold_and_underdiagnosis_by_hand():
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.35, 0.9])
    malignant = np.array([False] * 5 + [True] * 2)
    assert threshold_at_specificity(score, malignant, 0.8) == 0.4
    assert (score[~malignant] <= 0.4).mean() == 0.8
    ones = np.ones((4, 1))
    label, prediction = np.array([1, 1, 1, 0]), np.array([0, 2, 1, 0])
    share = underdiagnosis(label, prediction, np.array([False, True, True]), ones)
    assert share == pytest.approx(1 / 3)  # one of three malignant is called benign


def test_intersections_are_those_of_a_combined_column(tmp_path):
    frame = table(0)
    frame["cell"] = frame["tone"] + " x " + frame["sex"]
    path = write(tmp_path / "p.csv", frame)
    crossed = evaluate_file(path, group="tone,sex", patient="patient", replicates=200)
    combined = evaluate_file(path, group="cell", patient="patient", replicates=200)
    assert set(crossed["groups"]) == set(frame["cell"])
    for name in ("groups", "f1", "eopp1", "eopp1_mean", "floor", "p_value", "interval"):
        assert crossed[name] == combined[name], name


def test_several_seeds_are_means_and_their_interval_holds_the_seeds(tmp_path):
    paths = [write(tmp_path / f"s{seed}.csv", table(seed)) for seed in range(3)]
    options = {"group": "tone", "patient": "patient", "image": "image", "replicates": 300}
    alone = [evaluate_file(path, **options) for path in paths]
    together = evaluate_file(paths, **options)
    assert together["num_seeds"] == 3
    for name in ("f1", "eopp1", "eodd_hardt"):
        assert together[name] == pytest.approx(np.mean([one[name] for one in alone]))
        ends = together["interval"][name]
        assert ends["low"] < together[name] < ends["high"]
    # rows in another order are the same images
    shuffled = write(tmp_path / "t.csv", table(2).sample(frac=1, random_state=0))
    again = evaluate_file([*paths[:2], shuffled], **options)
    assert again["interval"] == together["interval"]


def test_a_reference_gives_paired_changes_and_another_order_of_rows_is_found_out(tmp_path):
    ours, theirs = (write(tmp_path / f"{n}.csv", table(n)) for n in (0, 1))
    options = {"group": "tone", "patient": "patient", "image": "image", "replicates": 300}
    found = evaluate_file(ours, reference=theirs, **options)
    change = found["change_interval"]["eodd_hardt"]
    value = found["changes"]["eodd_hardt"]
    assert change["low"] < value < change["high"]
    same = evaluate_file(ours, reference=ours, **options)
    assert same["change_interval"]["f1"]["low"] == same["change_interval"]["f1"]["high"] == 0


def test_patients_keep_the_type_1_error_where_images_do_not():
    """Images of a patient share their fate; groups are drawn without any relation to it."""
    rng = np.random.default_rng(0)
    rejected = {"patients": 0, "images": 0}
    num_sets, per_patient = 120, 6
    for _ in range(num_sets):
        patient = np.repeat(np.arange(40), per_patient)
        group = rng.permutation(np.repeat([0, 1], 20))[patient]
        label = np.repeat(rng.integers(0, 2, 40), per_patient)
        right = rng.random(40)[patient] < 0.6
        prediction = np.where(right ^ (rng.random(len(label)) < 0.05), label, 1 - label)
        for name, unit in (("patients", patient), ("images", None)):
            found = permutation_floor(
                label, prediction, group, unit, num_classes=2, num_groups=2, num_replicates=199
            )
            rejected[name] += found.gaps["eopp1"].p_value <= 0.05
    assert rejected["patients"] / num_sets <= 0.05 + 3 * (0.05 * 0.95 / num_sets) ** 0.5
    assert rejected["images"] / num_sets > 0.2


def test_the_page_is_whole_and_its_text_is_escaped(tmp_path):
    frame = table(0)
    frame["tone"] = frame["tone"].replace("dark", "<script>alert(1)</script>")
    path = write(tmp_path / "p.csv", frame)
    from typer.testing import CliRunner

    from orchestrator.cli import app

    command = ["evaluate", str(path), "--group", "tone", "--html", str(tmp_path / "p.html")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "p.html").read_text()
    assert "<script>alert(1)" not in page
    assert "Confusion matrices" in page
    assert "eodd_hardt" in page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"specificity": 1.5, "malignant": "mel"}, "specificity"),
        ({"replicates": 0}, "replicates"),
        ({"min_support": -1}, "min"),
        ({"within": "nothing"}, "nothing"),
        ({"malignant": "melanoma"}, "melanoma"),
        ({"absent": "maybe"}, "absent"),
    ],
)
def test_rubbish_is_refused_in_one_line(tmp_path, options, words):
    path = write(tmp_path / "p.csv", table(0))
    with pytest.raises(UserError, match=words) as error:
        evaluate_file(path, group="tone", probabilities="p_bcc,p_mel,p_nv", **options)
    assert "\n" not in str(error.value)
