"""The words of a verdict, in every direction."""

import pytest

from trainables.metrics.crossed import Interval
from trainables.metrics.verdict import verdict


def interval(value, low, high, **rest):
    return Interval(value, low, high, num_seeds=rest.pop("num_seeds", 5), **rest)


@pytest.mark.parametrize(
    ("numbers", "control", "higher", "kind", "text"),
    [
        ((0.08, 0.03, 0.13), "none", True, "better",
         "better than fine-tuning alone by 0.08 [0.03, 0.13] in F1"),
        ((-0.08, -0.13, -0.03), "random", True, "worse",
         "worse than random channels by 0.08 [0.03, 0.13] in F1"),
        ((-0.08, -0.13, -0.03), "none", False, "better",
         "better than fine-tuning alone by 0.08 [0.03, 0.13] in F1"),
        ((0.08, 0.03, 0.13), "random", False, "worse",
         "worse than random channels by 0.08 [0.03, 0.13] in F1"),
        ((0.01, -0.04, 0.06), "random", True, "not distinguishable",
         "not distinguishable from random channels in F1 (difference 0.01 [-0.04, 0.06])"),
        ((0.01, -0.04, 0.06), "snnl_highest", False, "not distinguishable",
         "not distinguishable from snnl_highest in F1 "
         "(difference 0.01 [-0.04, 0.06], lower is better)"),
        ((0.05, 0.0, 0.1), "none", True, "not distinguishable",
         "not distinguishable from fine-tuning alone in F1 (difference 0.05 [0.00, 0.10])"),
        ((0.004, 0.0004, 0.0076), "none", True, "better",
         "better than fine-tuning alone by 0.0040 [0.0004, 0.0076] in F1"),
        ((0.0032, -0.014, 0.0204), "none", False, "not distinguishable",
         "not distinguishable from fine-tuning alone in F1 "
         "(difference 0.003 [-0.014, 0.020], lower is better)"),
        ((0.0, 0.0, 0.0), "none", True, "not distinguishable",
         "not distinguishable from fine-tuning alone in F1 (difference 0.00 [0.00, 0.00])"),
    ],
)  # fmt: skip
def test_words(numbers, control, higher, kind, text) -> None:
    found = verdict(interval(*numbers), control, "f1", higher_is_better=higher)
    assert (found.kind, found.text) == (kind, text)
    assert "-0.00" not in found.text


def test_what_is_not_determined_says_why_once() -> None:
    reason = "not determined: the interval of the reference's gap reaches 0.1"
    found = verdict(Interval(0.3, reason=reason, num_seeds=5), "none", "fate_eopp1")
    assert found.kind == "not determined"
    assert found.text == reason.replace("determined", "determined (FATE, Eopp1)")
    undefined = verdict(Interval(None, reason="gap undefined"), "none", "fate_eopp1")
    assert undefined.text == "not determined (FATE, Eopp1): gap undefined"
    one_seed = verdict(interval(0.3, 0.2, 0.4, num_seeds=1), "none", "fate_eopp1")
    reason = "1 seed does not say how much training varies"
    assert one_seed.text == f"not determined (FATE, Eopp1): {reason}"


def test_what_weakens_it_travels_along() -> None:
    few = interval(0.3, 0.2, 0.4, num_seeds=3, approximate=("3 seeds, fewer than 5",))
    assert verdict(few, "none", "fate_eopp1").approximate == ("3 seeds, fewer than 5",)
