"""How many trials share a GPU: what is tried, when it stops, and what is kept."""

import os
import subprocess

import pytest
import ray

from orchestrator.running.gpu_sharing import CONTROL, LOGS, PIPES, shared_gpu
from orchestrator.running.packing import (
    CONTEXT_BYTES,
    MeasuredPacking,
    digest_of,
    find_packing,
    read_packing,
    root_of,
    trials_to_try,
    write_packing,
)
from orchestrator.running.packing_probe import Probes
from orchestrator.running.resources import Resources, parse_gpus
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.training_rate import Measured, TrainingRate
from trainables.trial_spec import Compute, Trial

GB = 10**9


def gpu(rates: dict[int, float], memory: int = GB, fits: int = 99):
    """A GPU whose processes train so many images a second together."""
    tried = []

    def rate_of(number: int) -> list[Measured]:
        if number > fits:
            raise MemoryError("CUDA out of memory")
        tried.append(number)
        return [Measured(int(rates[number] / number * 4), 4.0, memory) for _ in range(number)]

    return rate_of, tried


def test_what_is_tried():
    assert trials_to_try(1) == [1]
    assert trials_to_try(8) == [1, 2, 4, 8]
    assert trials_to_try(12) == [1, 2, 4, 8, 12]


def test_the_fewest_processes_that_fill_the_gpu():
    rate_of, tried = gpu({1: 6000, 2: 11000, 4: 18000, 8: 18500, 16: 30000})
    best, rates, memory = find_packing(rate_of, 16, lambda: 80 * GB)
    assert (best, memory) == (4, GB)
    assert tried == [1, 2, 4, 8]  # 8 is not worth it, so 16 is not tried
    assert rates[8] == pytest.approx(18500, rel=1e-3)


def test_a_slower_crowd_is_never_chosen():
    rate_of, _ = gpu({1: 6000, 2: 5000})
    assert find_packing(rate_of, 16, lambda: 80 * GB)[0] == 1


def test_cores_and_memory_are_limits():
    rates = dict.fromkeys([1, 2, 4, 8, 16], 0.0) | {n: 5000.0 * n for n in (1, 2, 3, 4, 8, 16)}
    assert find_packing(gpu(rates)[0], 3, lambda: 80 * GB)[0] == 3
    each = GB + CONTEXT_BYTES
    assert find_packing(gpu(rates)[0], 16, lambda: int(4 * each / 0.85) + 1)[0] == 4
    assert find_packing(gpu(rates, fits=2)[0], 16, lambda: 80 * GB)[0] == 2
    with pytest.raises(MemoryError):
        find_packing(gpu(rates, fits=0)[0], 16, lambda: 80 * GB)


def test_as_many_as_may_be_tried_are_started_together():
    rates = {n: 5000.0 * n for n in (1, 2, 4, 8, 12, 16)}
    whole = 80 * GB
    for most, room, told in (
        (16, whole, [16, 16]), (12, whole, [12, 12]), (16, 0, [16, 16]), (1, 0, [1]),
    ):  # fmt: skip
        started = []
        find_packing(gpu(rates)[0], most, lambda room=room: room, started.append)
        assert started == told
    each, started = GB + CONTEXT_BYTES, []
    find_packing(gpu(rates)[0], 16, lambda: int(5 * each / 0.85), started.append)
    assert started == [16, 4]  # first all that the cores allow, then what fits


@pytest.mark.slow
def test_processes_that_were_started_together_train_together(dataset):
    ray.init(address="local", num_cpus=3, include_dashboard=False)
    try:
        probes = Probes(Trial.model_validate(TRIAL).resolved("cpu"), ray.put(dataset), 1, 0)
        assert len(probes.train(1, 0.1)) == 1
        probes.start(3)
        first = [len(probes.train(number, 0.1)) for number in (2, 3)]
        assert (first, len(probes._actors)) == ([2, 3], 3)
        probes.close()
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(Synthetic.Config(num_images=96, image_size=16))


TRIAL = {
    "backbone": {"name": "resnet18"}, "seed": 0,
    "baseline": {"name": "vanilla", "training": {"epochs": 1, "batch_size": 16}},
}  # fmt: skip


def test_a_measurement_is_kept_for_the_same_thing_alone(tmp_path, dataset):
    trial = Trial.model_validate(TRIAL)
    what = digest_of(trial, dataset, 8, True, "H100")
    packing = MeasuredPacking(4, {1: 6000.0, 2: 11000.0, 4: 18000.0}, GB, "H100", True, what)
    assert read_packing(tmp_path, what) is None
    write_packing(tmp_path, packing)
    assert read_packing(tmp_path, what) == packing
    assert "4 trials share each GPU" in packing.text
    assert "18,000 images/s" in packing.text
    for other in (
        digest_of(trial, dataset, 8, False, "H100"), digest_of(trial, dataset, 8, True, "L4"),
        digest_of(trial.model_copy(update={"seed": 1}), dataset, 8, True, "H100"),
    ):  # fmt: skip
        assert read_packing(tmp_path, other) is None
    (tmp_path / "packing.json").write_text('{"trials_per_gpu": 4')
    assert read_packing(tmp_path, what) is None


def test_the_root_of_a_derived_baseline_is_the_one_that_trains():
    derived = Trial.model_validate(TRIAL | {"baseline": {"name": "obd"}})
    assert root_of(derived).baseline.name == "vanilla"


def test_training_can_be_timed_and_changes_nothing_on_disk(dataset):
    rate = TrainingRate(Trial.model_validate(TRIAL).resolved("cpu"), dataset, "cpu")
    before = {n: t.clone() for n, t in rate.model.state_dict().items()}
    measured = rate.run(0.2)
    assert measured.images >= 16 * 5
    assert measured.images % 16 == 0
    assert 0.2 <= measured.seconds < 60
    assert any((before[n] != t).any() for n, t in rate.model.state_dict().items())
    with pytest.raises(ValueError, match="parents"):
        TrainingRate(Trial.model_validate(TRIAL | {"baseline": {"name": "obd"}}), dataset, "cpu")


def test_gpus_per_trial_as_typed():
    assert parse_gpus(None) is None
    assert parse_gpus("auto") == "auto"
    assert parse_gpus("0.25") == 0.25
    for wrong in ("many", "nan", "inf"):
        with pytest.raises(UserError, match=f"--gpus-per-trial must be .* got '{wrong}'"):
            parse_gpus(wrong)


def test_without_a_gpu_nothing_is_packed():
    found = Resources(packs=True).resolved(Compute())
    if found.gpus_per_trial:
        pytest.skip("this machine has a GPU")
    assert not found.packs
    assert not found.shares
    assert found.workers


def test_fewer_trials_than_places_are_spread_over_the_gpus(monkeypatch):
    monkeypatch.setattr("orchestrator.running.resources._num_gpus", lambda: 8)
    eight = Resources(packs=True, workers=8).resolved(Compute()).packed(8)
    assert (eight.workers, eight.gpus_per_trial) == (8, 1.0)
    twelve = Resources(packs=True, workers=12).resolved(Compute()).packed(8)
    assert (twelve.workers, twelve.gpus_per_trial) == (12, 0.5)
    full = Resources(packs=True).resolved(Compute()).packed(4)
    assert (full.workers, full.gpus_per_trial) == (32, 0.25)
    uneven = Resources(gpus_per_trial=0.4).resolved(Compute())
    assert uneven.workers == 16
    with pytest.raises(UserError, match="auto measures on one machine"):
        Resources(packs=True, address="auto").resolved(Compute())


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program in the place of the service's control."""
    monkeypatch.delenv(PIPES, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(text: str) -> None:
        path = tmp_path / CONTROL
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return write


@pytest.mark.skipif(os.path.exists("/tmp/nvidia-mps/control"), reason="a service is at work here")
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo Insufficient permissions >&2; exit 1", "Insufficient permissions"),
        ("exit 0", "does not work here"),  # it starts, and CUDA finds no service (or no GPU)
    ],
)
def test_a_service_that_does_not_work_is_left_out(program, tmp_path, script, told):
    program(script)
    said = []
    with shared_gpu(tmp_path, said.append) as works:
        assert not works
        assert PIPES not in os.environ
    assert len(said) == 1
    assert told in said[0]
    assert PIPES not in os.environ
    assert LOGS not in os.environ


def test_a_service_that_is_there_is_used_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv(PIPES, "/somewhere")
    with shared_gpu(tmp_path, pytest.fail) as works:
        assert works
    assert os.environ[PIPES] == "/somewhere"


@pytest.mark.skipif(os.path.exists("/tmp/nvidia-mps/control"), reason="a service is at work here")
def test_an_interrupt_while_the_service_is_tried_ends_it(program, tmp_path, monkeypatch):
    program(f"[ \"$1\" = -d ] || cat > {tmp_path}/asked")
    seen = []

    def interrupted(command, **options):
        if "-c" in command:
            raise KeyboardInterrupt
        if "-d" in command:
            seen.append(options["env"])
        return run(command, **options)

    run = subprocess.run
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr("orchestrator.running.gpu_sharing.subprocess.run", interrupted)
    with pytest.raises(KeyboardInterrupt), shared_gpu(tmp_path, pytest.fail):
        pytest.fail("never begins")
    assert (tmp_path / "asked").read_text() == "quit\n"
    assert PIPES not in os.environ
    assert "CUDA_VISIBLE_DEVICES" not in seen[0]  # else it numbers the GPUs anew
