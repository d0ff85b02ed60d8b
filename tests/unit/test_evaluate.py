import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console
from sklearn.metrics import f1_score, roc_auc_score

import orchestrator
from orchestrator.evaluation.evaluate import evaluate_file, render
from trainables.errors import UserError
from trainables.metrics.confusion import confusion_counts, counts_digest
from trainables.metrics.fate import fate
from trainables.metrics.summary import compare, summarise

SCHEMA = json.loads((Path(orchestrator.__file__).parent / "schemas/evaluate.json").read_text())
PROMISED = {
    "num_samples",
    "num_classes",
    "groups",
    "precision",
    "recall",
    "f1",
    "precision_diff",
    "recall_diff",
    "f1_diff",
    "f1_pooled",
    "accuracy",
    "eopp0",
    "eopp1",
    "eodd",
    "eodd_hardt",
    "demographic_parity",
    "fate_eopp0",
    "fate_eopp1",
    "fate_eodd",
    "fate_eodd_hardt",
    "notes",
    "undefined",
}


def _checked(result: dict) -> dict:
    """The document, after the schema and strict JSON have seen it."""
    text = json.dumps(result, allow_nan=False)
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    return result


def _frame(seed: int = 0, num: int = 120, num_groups: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, num)
    return pd.DataFrame(
        {
            "y_true": label,
            "y_pred": np.where(rng.random(num) < 0.6, label, rng.integers(0, 4, num)),
            "group": np.array(["female", "male", "other"])[rng.integers(0, num_groups, num)],
            "patient_id": [f"p{i:03}" for i in rng.integers(0, 40, num)],
        }
    )


def _write(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def _with_probabilities(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    raw = np.random.default_rng(7).dirichlet(np.ones(len(names)), len(frame))
    return frame.assign(**dict(zip(names, raw.T, strict=True)))


def test_the_schema_is_valid_and_promises_every_key() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["required"]) >= PROMISED


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_figures_equal_those_of_the_counts(tmp_path: Path, suffix: str) -> None:
    frame = _frame()
    result = _checked(evaluate_file(_write(frame, tmp_path / f"predictions.{suffix}")))
    group = (frame["group"] == "male").to_numpy().astype(int)
    label, prediction = frame["y_true"].to_numpy(), frame["y_pred"].to_numpy()
    count = confusion_counts(label, prediction, group, num_classes=4, num_groups=2)
    expected = summarise(count, groups=["female", "male"], classes=list("0123"))
    for key in set(expected) - {"undefined"}:
        assert result[key] == expected[key], key
    assert result["counts_digest"] == counts_digest(count)
    per_group = [
        f1_score(label[group == g], prediction[group == g], average="macro") for g in (0, 1)
    ]
    assert result["f1"] == pytest.approx(np.mean(per_group))
    assert result["classes"] == [0, 1, 2, 3]
    assert any("assumes independent images" in note for note in result["notes"])
    assert result["fate_eodd"] is None
    assert result["undefined"]["fate_eodd"] == "no reference given"


def test_reference_gives_fate_and_each_groups_change(tmp_path: Path) -> None:
    now, before = _write(_frame(1), tmp_path / "a.csv"), _write(_frame(2), tmp_path / "b.parquet")
    result = _checked(evaluate_file(now, reference=before))
    a, b = evaluate_file(now), evaluate_file(before)
    for gap in ("eopp0", "eopp1", "eodd", "eodd_hardt"):
        assert result[f"fate_{gap}"] == fate(a["f1"], a[gap], b["f1"], b[gap])
        assert result["reference"][gap] == b[gap]
    assert result["tag"] == compare(a, b)["tag"]
    change = a["groups"]["male"]["f1"] - b["groups"]["male"]["f1"]
    assert result["group_changes"]["male"]["f1"] == change
    assert any("other images" in note for note in result["notes"])
    same = _checked(evaluate_file(now, reference=now))
    assert same["fate_eodd"] == 0
    assert same["tag"] == "no change"
    assert not any("other images" in note for note in same["notes"])


def test_classes_and_groups_are_those_of_both_files(tmp_path: Path) -> None:
    now = pd.DataFrame({"y_true": [2, 10, 2, 10], "y_pred": [2, 2, 10, 10], "group": list("abab")})
    before = pd.DataFrame({"y_true": [2, 9, 2, 9], "y_pred": [2, 9, 11, 9], "group": list("abab")})
    result = _checked(
        evaluate_file(
            _write(now, tmp_path / "a.csv"), reference=_write(before, tmp_path / "b.csv")
        )
    )
    assert result["classes"] == [2, 9, 10, 11]  # numerically, not by the alphabet
    assert result["num_classes"] == 4


def test_text_labels_and_a_class_that_is_only_predicted(tmp_path: Path) -> None:
    frame = _frame()
    names = np.array(["nv", "mel", "bcc", "akiec"])
    text = frame.assign(y_true=names[frame["y_true"]], y_pred=names[frame["y_pred"]])
    text.loc[0, "y_pred"] = "vasc"
    result = _checked(evaluate_file(_write(text, tmp_path / "text.csv")))
    assert result["classes"] == ["akiec", "bcc", "mel", "nv", "vasc"]
    pooled = f1_score(text["y_true"], text["y_pred"], average="macro", zero_division=0)
    assert result["f1_pooled"] == pytest.approx(pooled)
    assert 4 in result["skipped_classes"]["eopp1"]
    integers = evaluate_file(_write(frame, tmp_path / "integers.csv"))
    text = frame.assign(y_true=names[frame["y_true"]], y_pred=names[frame["y_pred"]])
    as_text = evaluate_file(_write(text, tmp_path / "same.csv"))
    for key in ("f1", "eopp1", "eodd", "eopp0"):
        assert as_text[key] == pytest.approx(integers[key], abs=1e-12)


def test_integers_written_as_floats_or_text_are_the_same_classes(tmp_path: Path) -> None:
    frame = _frame()
    plain = evaluate_file(_write(frame, tmp_path / "plain.csv"))
    floats = frame.assign(y_true=frame["y_true"].astype(float))
    texts = frame.assign(y_pred=frame["y_pred"].astype(str))
    for name, other in (("f.csv", floats), ("f.parquet", floats), ("t.parquet", texts)):
        assert evaluate_file(_write(other, tmp_path / name))["f1"] == plain["f1"]


def test_rows_without_a_group_are_dropped_and_counted(tmp_path: Path) -> None:
    frame = _frame()
    frame.loc[:9, "group"] = None
    frame.loc[3, "y_true"] = 3
    for name in ("a.csv", "a.parquet"):
        result = _checked(evaluate_file(_write(frame, tmp_path / name)))
        assert result["num_unknown_group"] == 10
        assert result["num_samples"] == 110
        kept = evaluate_file(_write(frame[10:], tmp_path / f"kept_{name}"))
        assert result["f1"] == kept["f1"]
        assert any("10 rows without a group" in note for note in result["notes"])


def test_integer_groups_with_gaps_keep_their_names(tmp_path: Path) -> None:
    frame = _frame().assign(group=lambda f: f["group"].map({"female": 2.0, "male": 10.0}))
    frame.loc[0, "group"] = np.nan
    result = _checked(evaluate_file(_write(frame, tmp_path / "a.csv")))
    assert list(result["groups"]) == ["2", "10"]


def test_a_group_called_unknown_is_pointed_out(tmp_path: Path) -> None:
    frame = _frame()
    frame.loc[:9, "group"] = "unknown"
    result = _checked(evaluate_file(_write(frame, tmp_path / "a.csv")))
    assert result["groups"]["unknown"]["num_samples"] == 10
    assert any("'unknown' is assessed as a group" in note for note in result["notes"])


def test_three_groups_one_of_them_a_single_row(tmp_path: Path) -> None:
    frame = _frame()
    frame.loc[0, "group"] = "other"
    path = _write(frame, tmp_path / "a.csv")
    result = _checked(evaluate_file(path))
    assert result["groups"]["other"]["num_samples"] == 1
    assert result["eopp1_mean"] <= result["eopp1"]
    strict = _checked(evaluate_file(path, min_support=2))
    assert strict["not_assessed"] == {"other": "n = 1, not assessed"}
    with pytest.raises(UserError, match="2 groups but got 3"):
        evaluate_file(path, mode="paper")


def test_one_group_has_no_gap_but_its_scores(tmp_path: Path) -> None:
    path = _write(_frame().assign(group="all"), tmp_path / "a.csv")
    result = _checked(evaluate_file(path, reference=path))
    assert result["eodd"] is None
    assert result["undefined"]["eodd"] == "one group assessed, a gap needs two"
    assert result["f1"] == pytest.approx(result["f1_pooled"])
    assert result["tag"] == "not assessed"
    assert result["undefined"]["fate_eodd"] == "gap and reference gap undefined"


def test_patients_are_counted_and_the_note_stays(tmp_path: Path) -> None:
    frame = _frame()
    frame.loc[0, "patient_id"] = None
    result = _checked(evaluate_file(_write(frame, tmp_path / "a.csv"), patient="patient_id"))
    sizes = frame["patient_id"].value_counts()
    assert result["num_patients"] == len(sizes)
    assert result["num_unknown_patient"] == 1
    assert result["images_per_patient"] == {
        "min": sizes.min(),
        "median": sizes.median(),
        "mean": pytest.approx(sizes.mean()),
        "max": sizes.max(),
    }
    assert not any("assumes independent images" in note for note in result["notes"])
    assert any("1 rows have no patient" in note for note in result["notes"])


def test_patient_names_are_not_read_as_numbers(tmp_path: Path) -> None:
    frame = _frame(num=4).assign(patient_id=["007", "7", "7.0", "007"])
    result = evaluate_file(_write(frame, tmp_path / "a.csv"), patient="patient_id")
    assert result["num_patients"] == 3


@pytest.mark.parametrize("names", [["p_0", "p_1", "p_2", "p_3"], ["p_2", "p_0", "p_3", "p_1"]])
def test_probabilities_give_predictions_and_calibration(tmp_path: Path, names) -> None:
    frame = _with_probabilities(_frame(), names)
    path = _write(frame.drop(columns="y_pred"), tmp_path / "a.csv")
    result = _checked(evaluate_file(path, probabilities=",".join(names)))
    ordered = frame[sorted(names)].to_numpy()
    expected = evaluate_file(_write(frame.assign(y_pred=ordered.argmax(1)), tmp_path / "b.csv"))
    assert result["counts_digest"] == expected["counts_digest"]
    for group in ("female", "male"):
        rows = (frame["group"] == group).to_numpy()
        label = frame["y_true"].to_numpy()[rows]
        area = roc_auc_score(label, ordered[rows], multi_class="ovr", average="macro")
        assert result["groups"][group]["auroc"] == pytest.approx(area, abs=1e-9)
        distance = ((ordered[rows] - np.eye(4)[label]) ** 2).sum(1).mean()
        assert result["groups"][group]["brier"] == pytest.approx(distance, abs=1e-9)
        assert 0 <= result["groups"][group]["ece"] <= 1


def test_probability_columns_named_after_text_classes(tmp_path: Path) -> None:
    names = np.array(["nv", "mel", "bcc", "akiec"])
    frame = _frame().assign(y_true=lambda f: names[f["y_true"]]).drop(columns="y_pred")
    columns = [f"prob_{name}" for name in names] + ["prob_vasc"]
    frame = _with_probabilities(frame, columns)
    result = _checked(evaluate_file(_write(frame, tmp_path / "a.parquet"), probabilities=columns))
    assert result["classes"] == ["akiec", "bcc", "mel", "nv", "vasc"]
    right = frame[columns].to_numpy().argmax(1) == frame["y_true"].map(
        {name: i for i, name in enumerate(names)}
    )
    assert result["accuracy"] == pytest.approx(right.mean())
    assert not any("by position" in note for note in result["notes"])


def test_probability_columns_by_position_are_said_to_be(tmp_path: Path) -> None:
    frame = _with_probabilities(_frame().assign(y_true=lambda f: f["y_true"] + 1), list("wxyz"))
    path = _write(frame.drop(columns="y_pred"), tmp_path / "a.csv")
    result = _checked(evaluate_file(path, probabilities="w,x,y,z"))
    right = frame[list("wxyz")].to_numpy().argmax(1) + 1 == frame["y_true"]
    assert result["accuracy"] == pytest.approx(right.mean())
    assert any("w = 1, x = 2, y = 3, z = 4" in note for note in result["notes"])


def test_a_prediction_column_wins_over_probabilities_and_the_rest_is_said(tmp_path: Path) -> None:
    frame = _with_probabilities(_frame(), ["p_0", "p_1", "p_2", "p_3"])
    path = _write(frame, tmp_path / "a.csv")
    result = _checked(evaluate_file(path, probabilities="p_0,p_1,p_2,p_3"))
    assert result["f1"] == evaluate_file(path)["f1"]
    most_probable = frame[["p_0", "p_1", "p_2", "p_3"]].to_numpy().argmax(1)
    num_other = (most_probable != frame["y_pred"]).sum()
    assert any(f"in {num_other} rows" in note for note in result["notes"])
    # A reference with predictions alone will do.
    bare = _write(_frame(3), tmp_path / "b.csv")
    with_reference = evaluate_file(path, reference=bare, probabilities="p_0,p_1,p_2,p_3")
    assert with_reference["fate_eodd"] is not None


def test_paper_mode_reads_absent_classes_as_zero(tmp_path: Path) -> None:
    frame = pd.DataFrame({"y_true": [0, 1, 0, 0], "y_pred": [0, 1, 0, 0], "group": list("aabb")})
    path = _write(frame, tmp_path / "a.csv")
    assert _checked(evaluate_file(path, mode="paper"))["eopp1"] == 0.5
    assert _checked(evaluate_file(path))["eopp1"] == 0.0


def _changed(**columns) -> pd.DataFrame:
    return _frame().assign(**columns)


BAD = np.array([0.7, *[1.0] * 119])
HOLE = [None, *[1] * 119]


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (_frame().rename(columns={"y_pred": "y_prd"}), {}, "'y_pred' in .*mean 'y_prd'"),
        (_frame().rename(columns={"group": "sex"}), {}, "no column 'group' in .*columns: y_true"),
        (_frame(), {"patient": "patient"}, "mean 'patient_id'"),
        (_frame(), {"probabilities": "p_0,p_1"}, "no column 'p_0'"),
        (_frame()[:0], {}, "has no rows"),
        (_changed(y_pred=HOLE), {}, "y_pred must be given .* 1 are missing, .* data row 1"),
        (_changed(y_true=HOLE), {}, "y_true must be given in every row"),
        (_changed(group=None), {}, "group is missing in every row"),
        (_changed(y_pred=BAD), {}, "integer classes .* got '0.7'"),
        (_changed(y_true="nv"), {}, "y_pred holds integers but y_true holds names"),
        (_changed(group=range(120)), {}, "at most 100 groups .* 120"),
        (_frame(), {"mode": "exact"}, "corrected, paper but got 'exact'"),
        (_frame(), {"probabilities": "p_0,p_0"}, "names a column twice"),
        (_changed(p_0=1.0, p_1=0.0), {"probabilities": "p_0,p_1"}, "names 2 columns .* 4 classes"),
        (
            _changed(p_0=1.5, p_1=0, p_2=0, p_3=0),
            {"probabilities": "p_0,p_1,p_2,p_3"},
            r"in \[0, 1\] but got 1.5 .*p_0, data row 1",
        ),
        (
            _changed(p_0=0.5, p_1=0, p_2=0, p_3=0.1),
            {"probabilities": "p_0,p_1,p_2,p_3"},
            "add up to 1 but give 0.6",
        ),
        (
            _changed(p_0=0.5, p_1=0, p_2=0.2),
            {"probabilities": "p_0,p_1,p_2"},
            "names 3 columns .p_0, p_1, p_2. but the labels have 4 classes: one is missing",
        ),
        (
            _changed(group=np.arange(120) % 4),
            {"absent": "zero"},
            "absent 'zero' is defined for 2 groups but group has 4",
        ),
        (
            _changed(p_0=np.nan, p_1=0, p_2=0, p_3=1),
            {"probabilities": "p_0,p_1,p_2,p_3"},
            "but got nan",
        ),
        (
            _changed(p_0="high", p_1=0, p_2=0, p_3=1),
            {"probabilities": "p_0,p_1,p_2,p_3"},
            "must be numbers",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, frame, options, message: str) -> None:
    for suffix in ("csv", "parquet"):
        path = _write(frame, tmp_path / f"predictions.{suffix}")
        with pytest.raises(UserError, match=message) as error:
            evaluate_file(path, **options)
        assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    _write(_frame(), tmp_path / "predictions.csv")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "picture.csv").write_bytes(bytes(range(128, 256)))
    for name, message in (
        ("prediction.csv", "no file .* did you mean 'predictions.csv'"),
        ("empty.csv", "is empty"),
        ("broken.parquet", "cannot read"),
        ("picture.csv", "cannot read"),
        ("", "cannot read"),
    ):
        with pytest.raises(UserError, match=message) as error:
            evaluate_file(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y_true,y_pred,group\n0,1,a,\n1,1,b,\n", "Expected 3 columns, got 4"),
        ("y_true,y_pred,group\n0,1,a\n1,x,1,b\n", "Expected 3 columns, got 4"),
        ("y_true,y_pred,group\n0,1,a\n1,1\n", "Expected 3 columns, got 2"),
        ("y_true,y_pred,group,group\n0,1,a,b\n", "'group' is in .* more than once"),
        ("y_true,y_pred,group\n", "has no rows"),
    ],
)
def test_lines_that_do_not_fit_the_header_are_refused(tmp_path: Path, text, message) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        evaluate_file(tmp_path / "a.csv")
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_quotes_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    text = 'y_true,y_pred,group,site\r\n0,0,"a, b","x\ny"\r\n1,0,c,z\r\n'
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    result = _checked(evaluate_file(tmp_path / "a.csv"))
    assert list(result["groups"]) == ["a, b", "c"]
    assert result["accuracy"] == 0.5


def _shown(result: dict) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(render(result))
    return console.file.getvalue()


def test_render_shows_groups_gaps_fate_and_notes(tmp_path: Path) -> None:
    frame = _with_probabilities(_frame(1, num_groups=3), ["p_0", "p_1", "p_2", "p_3"])
    frame.loc[0, "group"] = "[bold]odd"  # a name, not a markup
    path, before = _write(frame, tmp_path / "a.csv"), _write(_frame(2), tmp_path / "b.csv")
    result = evaluate_file(path, reference=before, probabilities="p_0,p_1,p_2,p_3", min_support=2)
    text = _shown(result)
    assert "[bold]odd: n = 1, not assessed" in text
    for value in (result["f1"], result["eopp1"], result["eodd_mean"], result["ece"]):
        assert f"{value:.3f}" in text
    assert "assumes independent images" in text
    assert "not a harm by itself" in text
    two = evaluate_file(before, reference=_write(_frame(3), tmp_path / "c.csv"))
    assert f"{two['fate_eodd']:+.3f}" in _shown(two)
    assert two["tag"] in _shown(two)
    assert "no reference given" not in _shown(evaluate_file(before))


def test_no_value_is_nan_anywhere(tmp_path: Path) -> None:
    def walk(value) -> None:
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                walk(item)
        assert not (isinstance(value, float) and math.isnan(value))
        assert type(value) in (dict, list, str, int, float, type(None))

    frame = pd.DataFrame({"y_true": [0, 1], "y_pred": [1, 1], "group": ["a", "b"]})
    frame = frame.assign(p_0=[0.3, 0.4], p_1=[0.7, 0.6])
    path = _write(frame, tmp_path / "a.csv")
    result = _checked(evaluate_file(path, reference=path, probabilities="p_0,p_1"))
    walk(result)
    assert result["groups"]["a"]["auroc"] is None
