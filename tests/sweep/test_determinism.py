"""The same space gives the same results to the bit, however many workers compute it, in whatever
order its trials are handed out, and whatever the seed of Python's hashes is.
"""

import numpy as np
import pytest
from sweep_runs import assert_each_node_once, results, write_space

from orchestrator.ledger.records import load_records, read_events

pytestmark = pytest.mark.slow
RATIOS, SEEDS = [0.1, 0.3], [0, 1]


def space_in_order(path, rng=None):
    """Two roots, and none, snnl and random under each; ``rng`` shuffles whatever is a list."""
    ratios, seeds, controls = RATIOS[:], SEEDS[:], ["none", "random"]
    if rng is not None:
        for values in (ratios, seeds, controls):
            rng.shuffle(values)
    prune = {"criterion": "snnl", "ratio": {"choice": ratios}, "site": "conv"}
    return write_space(path, prune=prune, seeds=seeds, controls=controls, iterations=1)


def order_of(folder):
    return [e["key"] for e in read_events(folder) if e["event"] == "scheduled"]


@pytest.fixture(scope="module")
def reference(cli, place):
    """One worker, hash seed 0."""
    cli.environment["PYTHONHASHSEED"] = "0"
    code, _, err = cli.run(space_in_order(place / "as-is.yaml"), place / "one", "--workers", "1")
    assert code == 0, err
    return place / "one"


@pytest.mark.parametrize(
    ("workers", "hash_seed", "shuffle"),
    [(2, "1", None), (4, "2", None), (1, "random", 1), (2, "random", 2), (4, "0", 3)],
)
def test_the_same_bits(cli, place, reference, workers, hash_seed, shuffle):
    name = f"{workers}-{hash_seed}-{shuffle}"
    rng = None if shuffle is None else np.random.default_rng(shuffle)
    cli.environment["PYTHONHASHSEED"] = hash_seed
    folder = place / name
    space = space_in_order(place / f"{name}.yaml", rng)
    code, _, err = cli.run(space, folder, "--workers", str(workers))
    assert code == 0, err
    expected = results(reference)
    assert len(expected) == 2 * (1 + 1 + 2 * len(RATIOS))
    assert results(folder) == expected
    assert_each_node_once(folder)
    fates = [{k: r["fate"] for k, r in load_records(f).items()} for f in (folder, reference)]
    assert fates[0] == fates[1]
    if rng is not None:
        assert order_of(folder) != order_of(reference)
    used = {r["execution"]["pid"] for r in load_records(folder).values()}
    assert len(used) <= workers
    assert len(used) > 1 or workers == 1
