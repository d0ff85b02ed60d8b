"""The data set as a trial sees it: batches on its device, drawn from the array in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from trainables.data.base import Dataset
from trainables.heartbeat import heart

_on_gpu: dict[tuple[str, str], Tensor] = {}
"""Arrays already on a GPU, by (fingerprint, device): a reused worker moves them once, not once a
trial.
"""


@dataclass(frozen=True)
class Labels:
    """Classes and groups of some images, on one device."""

    label_N: Tensor
    group_N: Tensor  # of the sweep's own attribute, -1 where unknown
    further: Mapping[str, Tensor] = field(default_factory=dict)  # attribute -> group_N

    def at(self, which: Tensor | slice) -> Labels:
        """Those of some of the images."""
        further = {name: value_N[which] for name, value_N in self.further.items()}
        return Labels(self.label_N[which], self.group_N[which], further)


class DeviceData:
    """Batches of one data set on one device.

    On a GPU the whole array is moved once where it fits into half of the free memory (never with
    ``keep_in_ram``). On a CPU batches are indexed from the shared array: indexing copies, so
    nothing can be written into memory that other trials read.
    """

    def __init__(
        self, dataset: Dataset, device: torch.device, *, keep_in_ram: bool = False
    ) -> None:
        self.dataset = dataset
        self.device = device
        self.on_cpu = Labels(
            torch.from_numpy(dataset.label_N.copy()),
            torch.from_numpy(dataset.group_N.copy()),
            {n: torch.from_numpy(each.group_N.copy()) for n, each in dataset.further.items()},
        )
        self.labels = Labels(
            self.on_cpu.label_N.to(device),
            self.on_cpu.group_N.to(device),
            {name: value_N.to(device) for name, value_N in self.on_cpu.further.items()},
        )
        self.label_N, self.group_N = self.labels.label_N, self.labels.group_N
        self._images = None if keep_in_ram or device.type != "cuda" else self._resident()

    def _resident(self) -> Tensor | None:
        index = (self.dataset.fingerprint, str(self.device))
        if index not in _on_gpu:
            _on_gpu.clear()
            free, _ = torch.cuda.mem_get_info(self.device)
            if self.dataset.images_NHWC.nbytes > free / 2:
                return None
            _on_gpu[index] = torch.from_numpy(np.array(self.dataset.images_NHWC)).to(self.device)
        return _on_gpu[index]

    @property
    def resident(self) -> Tensor | None:
        """All images, uint8 (A, H, W, 3), where they lie on the GPU."""
        return self._images

    def on_device(self, rows: Tensor) -> Tensor:
        """An index tensor on the device; the CPU does not wait until the GPU has come so far."""
        return rows.to(self.device, non_blocking=True)

    def images(self, rows: Tensor) -> Tensor:
        """Uint8 images (N, H, W, 3) of the rows (an index tensor), on the device."""
        heart.beat()  # whatever a trial does, it does it to batches
        if self._images is not None:
            return self._images[self.on_device(rows)]
        return self._gathered(rows).to(self.device)

    def images_ahead(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """``images`` of one index tensor after the other. Where the array stays in the memory of
        the machine, the next batch is gathered and copied to the GPU while the last one is used.
        """
        if self._images is not None or self.device.type != "cuda":
            yield from map(self.images, batches)
            return
        stream = torch.cuda.Stream(self.device)
        rest = iter(batches)
        with ThreadPoolExecutor(1) as thread:
            waiting = [thread.submit(self._copied, rows, stream) for rows in islice(rest, 2)]
            while waiting:
                images, is_there = waiting.pop(0).result()
                waiting += [thread.submit(self._copied, rows, stream) for rows in islice(rest, 1)]
                torch.cuda.current_stream(self.device).wait_event(is_there)
                images.record_stream(torch.cuda.current_stream(self.device))
                heart.beat()
                yield images

    def _gathered(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.dataset.images_NHWC[rows.cpu().numpy()])

    def _copied(self, rows: Tensor, stream: torch.cuda.Stream) -> tuple[Tensor, torch.cuda.Event]:
        """The images on the device once the event has come; pinned, for only from there a copy
        runs beside the GPU's work.
        """
        pinned = self._gathered(rows).pin_memory()
        with torch.cuda.stream(stream):
            images = pinned.to(self.device, non_blocking=True)
            is_there = torch.cuda.Event()
            is_there.record(stream)
        return images, is_there
