"""Which seeds a front compares configurations on."""

import pytest

from orchestrator.fronts.aggregate import Aggregate
from orchestrator.fronts.front import common_seeds


def point(*seeds: int) -> Aggregate:
    return Aggregate("c", {}, seeds, tuple(map(str, seeds)), {}, {}, {}, ())


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], ()),
        ([point(0), point(0)], (0,)),
        # one more seed for one configuration hides no other
        ([point(0, 1, 2), point(0, 1, 2), point(0, 1, 2, 3)], (0, 1, 2)),
        # when most have it, it counts
        ([point(0, 1, 2, 3)] * 2 + [point(0, 1, 2)] * 0, (0, 1, 2, 3)),
        # three seeds of few beat one seed of many
        ([point(0, 1, 2), point(0), point(0), point(0)], (0, 1, 2)),
        ([point(0, 1), point(0, 1), point(0)], (0, 1)),
    ],
)
def test_common_seeds(points: list[Aggregate], expected: tuple[int, ...]) -> None:
    assert common_seeds(points) == frozenset(expected)
