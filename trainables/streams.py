"""Random streams: a function of (seed, purpose, iteration, epoch) and of nothing else.

No key, criterion or version enters, so that arms that are compared see identical batches and
augmentations.
"""

import hashlib
from typing import Literal

import torch

Purpose = Literal["init", "order", "augment", "dropout", "select"]


def stream_seed(seed: int, purpose: Purpose, iteration: int = 0, epoch: int = 0) -> int:
    """A 63-bit seed for one purpose."""
    text = f"fatefront/{seed}/{purpose}/{iteration}/{epoch}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, purpose: Purpose, iteration: int = 0, epoch: int = 0) -> torch.Generator:
    """A CPU generator for one purpose, so that a GPU run sees the same numbers."""
    generator = torch.Generator()
    generator.manual_seed(stream_seed(seed, purpose, iteration, epoch))
    return generator
