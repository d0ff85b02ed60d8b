"""A backbone plus whatever further modules a baseline trains beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trainables.models.group_batch_norm import groups_of


@dataclass(frozen=True)
class MapReader:
    """A convolution among the extra modules that reads the maps one module of the net puts out."""

    source: str  # name of that module within the net
    module: nn.Conv2d


class Classifier(nn.Module):
    """``net`` is the backbone with its head; ``extra`` holds a baseline's further modules
    (adversaries, exits).

    ``masks`` maps parameter names to 0/1 tensors that are kept through all later training;
    ``plan`` says which channels were cut from ``net`` (``pruning.surgery.ChannelPlan``).
    """

    def __init__(self, net: nn.Module, extra: nn.ModuleDict | None = None) -> None:
        super().__init__()
        self.net = net
        self.extra = extra if extra is not None else nn.ModuleDict()
        self.masks: dict[str, Tensor] = {}
        self.plan: dict[str, dict] = {}

    def forward(self, image_NCHW: Tensor, group_N: Tensor | None = None) -> Tensor:
        """Outputs of the backbone's head; only a net with a BatchNorm per group reads
        ``group_N``.
        """
        if group_N is None:
            return self.net(image_NCHW)
        with groups_of(self.net, group_N):
            return self.net(image_NCHW)

    @property
    def head(self) -> nn.Linear:
        """The backbone's last linear layer."""
        return [m for m in self.net.modules() if isinstance(m, nn.Linear)][-1]

    def forward_features(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features before the last linear layer (N, F), and its outputs."""
        caught: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            output = self.net(image_NCHW)
        finally:
            handle.remove()
        return caught[0], output

    def forward_maps(
        self, image_NCHW: Tensor, sources: Sequence[str]
    ) -> tuple[list[Tensor], Tensor]:
        """Outputs of the net's modules named in ``sources``, in that order, and the head's."""
        caught: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda module, args, output: caught.update({name: output})

        with ExitStack() as stack:
            for name in sources:
                handle = self.net.get_submodule(name).register_forward_hook(keep(name))
                stack.callback(handle.remove)
            output = self.net(image_NCHW)
        return [caught[name] for name in sources], output

    def apply_masks(self) -> None:
        """Zero the masked weights again (after an optimiser step)."""
        if self.masks:
            parameters = dict(self.named_parameters())
            for name, mask in self.masks.items():
                parameters[name].data.mul_(mask)
