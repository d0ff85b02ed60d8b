"""The data set as a trial sees it: batches on its device, drawn from the array in memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainables.data.base import Dataset
from trainables.heartbeat import heart

_on_gpu: dict[tuple[str, str], Tensor] = {}
"""Arrays already on a GPU, by (fingerprint, device): a reused worker moves them once, not once a
trial.
"""


class DeviceData:
    """Batches of one data set on one device.

    On a GPU the whole array is moved once where it fits into half of the free memory. On a CPU
    batches are indexed from the shared array: indexing copies, so nothing can be written into
    memory that other trials read.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.dataset = dataset
        self.device = device
        self.label_N = torch.from_numpy(dataset.label_N.copy()).to(device)
        self.group_N = torch.from_numpy(dataset.group_N.copy()).to(device)
        self.further = {
            name: torch.from_numpy(each.group_N.copy()).to(device)
            for name, each in dataset.further.items()
        }
        self._images = self._resident() if device.type == "cuda" else None

    def _resident(self) -> Tensor | None:
        index = (self.dataset.fingerprint, str(self.device))
        if index not in _on_gpu:
            _on_gpu.clear()
            free, _ = torch.cuda.mem_get_info(self.device)
            if self.dataset.images_NHWC.nbytes > free / 2:
                return None
            _on_gpu[index] = torch.from_numpy(np.array(self.dataset.images_NHWC)).to(self.device)
        return _on_gpu[index]

    def images(self, rows: Tensor) -> Tensor:
        """Uint8 images (N, H, W, 3) of the rows (a CPU index tensor), on the device."""
        heart.beat()  # whatever a trial does, it does it to batches
        if self._images is not None:
            return self._images[rows.to(self.device, non_blocking=True)]
        return torch.from_numpy(self.dataset.images_NHWC[rows.numpy()]).to(self.device)
