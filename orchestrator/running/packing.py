"""``--gpus-per-trial auto``: how many trials share a GPU, measured once on the sweep's own step.

Small nets leave most of a GPU idle: several trials at once train more images a second, until the
GPU, its memory or the CPU cores that feed it are full. Where that is depends on all of them, so it
is tried: 1, 2, 4, ... processes train together for two or three seconds each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search_spaces.sweep_spec import SweepSpec
from trainables.data.base import Dataset
from trainables.errors import UserError, last_line
from trainables.storage import write_whole
from trainables.training_rate import Measured
from trainables.trial_spec import Trial

MAX_TRIALS = 16
SECONDS = 2.5
WORTH = 1.05
"""Twice the processes must train this much more, or fewer are better: each costs memory."""
MEMORY_SHARE = 0.85
CONTEXT_BYTES = 700 << 20
"""What CUDA takes of a GPU for each process beside its tensors."""
FILE = "packing.json"


@dataclass(frozen=True)
class MeasuredPacking:
    """What was measured, as ``packing.json`` keeps it.

    Attributes:
        trials_per_gpu: what is best.
        images_per_second: of all processes on one GPU together, by their number.
        memory: bytes of the GPU that one process holds.
        device: the GPU's name.
        service: whether CUDA's multi-process service was at work.
        what: digest of all that the measurement depends on.
    """

    trials_per_gpu: int
    images_per_second: dict[int, float]
    memory: int
    device: str
    service: bool
    what: str

    @property
    def text(self) -> str:
        """One line for people."""
        alone = self.images_per_second[1]
        rate = self.images_per_second[self.trials_per_gpu]
        many = self.trials_per_gpu
        how = f"{many} trials share each GPU" if many > 1 else "one trial on each GPU"
        service = " under the multi-process service" if self.service else ""
        return (
            f"packing: {how}{service} ({self.device}): {rate:,.0f} images/s, one alone "
            f"{alone:,.0f}; kept in {FILE}"
        )


def trials_to_try(most: int) -> list[int]:
    """1, 2, 4, ... up to ``most``, which is tried too."""
    numbers = [1]
    while numbers[-1] * 2 <= most:
        numbers.append(numbers[-1] * 2)
    return numbers if numbers[-1] == most else [*numbers, most]


def find_packing(
    rate_of: Callable[[int], list[Measured]],
    most: int,
    memory_of_gpu: Callable[[], int],
    start: Callable[[int], None] = lambda number: None,
) -> tuple[int, dict[int, float], int]:
    """Try more and more processes until they are no longer worth it.

    Args:
        rate_of: trains with so many processes together; raises ``MemoryError`` where they do not
            fit.
        most: processes that the CPU cores allow.
        memory_of_gpu: bytes, asked for after the first; 0: not looked at.
        start: has so many processes there, started at once if they are not yet: to start them
            one after another takes longer than all that is measured. Told first the most that the
            cores allow, and after one is measured how many fit by what it held.

    Returns:
        The best number, images a second of each number tried, bytes that one process holds.
    """
    rates: dict[int, float] = {}
    best, memory = 1, 0
    numbers = trials_to_try(max(1, min(most, MAX_TRIALS)))
    start(numbers[-1])
    for number in numbers:
        if number > 1:
            room = MEMORY_SHARE * memory_of_gpu()
            fitting = [n for n in numbers if not 0 < room < n * (memory + CONTEXT_BYTES)]
            if number not in fitting:
                break
            if len(rates) == 1:
                start(fitting[-1])  # fewer, where the most did not fit together
        try:
            measured = rate_of(number)
        except MemoryError:
            if not rates:
                raise
            break
        memory = max(one.memory for one in measured)
        rates[number] = round(sum(one.images / one.seconds for one in measured), 1)
        if number > 1 and rates[number] < WORTH * rates[best]:
            break
        best = number
    return best, rates, memory


def root_of(trial: Trial) -> Trial:
    """The trained ancestor of a trial, or itself."""
    while trial.parents:
        trial = trial.parents[0]
    return trial


def digest_of(trial: Trial, dataset: Dataset, most: int, service: bool, device: str) -> str:
    """All that a measurement depends on."""
    about = [trial.model_dump(mode="json"), dataset.fingerprint, most, service, device]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def read_packing(folder: Path, what: str) -> MeasuredPacking | None:
    """What was measured before in this folder, if it is about the same."""
    try:
        found: Mapping[str, Any] = json.loads((folder / FILE).read_text())
        rates = {int(k): float(v) for k, v in found["images_per_second"].items()}
        known = MeasuredPacking(**{**found, "images_per_second": rates})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not ours
        return None
    usable = known.what == what and known.trials_per_gpu in rates and 1 in rates
    return known if usable else None


def write_packing(folder: Path, packing: MeasuredPacking) -> None:
    """Keep a measurement beside the ledger."""
    write_whole(folder / FILE, (json.dumps(asdict(packing), indent=1) + "\n").encode())


def measure_packing(
    folder: Path, spec: SweepSpec, dataset: Dataset, reference: Any, *, most: int, service: bool
) -> MeasuredPacking:
    """What one GPU of the connected Ray cluster takes at once: as kept in the folder, or measured.

    Args:
        folder: of the sweep.
        spec: of the sweep; the root of its first arm is trained.
        dataset: its data.
        reference: the same in Ray's object store.
        most: processes that the CPU cores allow.
        service: whether CUDA's multi-process service is at work.

    Raises:
        UserError: one trial alone does not fit into the GPU's memory, or it cannot be trained.
    """
    import ray

    from orchestrator.running.packing_probe import Probes, gpu_name

    trial = root_of(next(iter(spec.corner_trials()))).resolved("cuda")
    device = gpu_name()
    what = digest_of(trial, dataset, most, service, device)
    known = read_packing(folder, what)
    if known is not None:
        return known
    probes = Probes(trial, reference, spec.compute.threads, 1 / max(1, min(most, MAX_TRIALS)))
    try:
        best, rates, memory = find_packing(
            lambda number: probes.train(number, SECONDS),
            most,
            lambda: probes.memory_of_gpu,
            probes.start,
        )
    except MemoryError as error:
        raise UserError(f"--gpus-per-trial auto: {error}") from None
    except ray.exceptions.RayError as error:
        line = last_line(str(error), type(error).__name__)
        raise UserError(f"--gpus-per-trial auto: could not be measured: {line}") from None
    finally:
        probes.close()
    packing = MeasuredPacking(best, rates, memory, device, service, what)
    write_packing(folder, packing)
    return packing
