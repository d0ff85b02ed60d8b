"""A backbone plus whatever further modules a baseline trains beside it."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """``net`` is the backbone with its head; ``extra`` holds a baseline's further modules
    (adversaries, exits).

    ``masks`` maps parameter names to 0/1 tensors that are kept through all later training.
    """

    def __init__(self, net: nn.Module, extra: nn.ModuleDict | None = None) -> None:
        super().__init__()
        self.net = net
        self.extra = extra if extra is not None else nn.ModuleDict()
        self.masks: dict[str, Tensor] = {}

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Outputs of the backbone's head."""
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

    def apply_masks(self) -> None:
        """Zero the masked weights again (after an optimiser step)."""
        if self.masks:
            parameters = dict(self.named_parameters())
            for name, mask in self.masks.items():
                parameters[name].data.mul_(mask)
