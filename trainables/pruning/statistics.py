"""What one forward pass (and one backward pass) leaves behind at several places of a net.

Shape legend: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn import functional


class Sites:
    """Catches the outputs of some modules, and nothing else, while the context is open.

    Torchvision's ReLU and addition work in place on what the module before them put out. So
    ``output`` holds the output itself, while the net goes on with a copy.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._stack = ExitStack()
        self.output: dict[str, Tensor] = {}

    def __enter__(self) -> Sites:
        for name, module in self._modules.items():
            self._stack.callback(module.register_forward_hook(self._catch(name)).remove)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _catch(self, name: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not output.requires_grad:
                output.requires_grad_()  # nothing before it has parameters that learn
            self.output[name] = output
            return output.clone()

        return hook

    def run(self, forward: Callable[[], Tensor]) -> None:
        """One forward pass without gradients."""
        with torch.inference_mode():
            forward()

    def run_with_gradients(
        self, forward: Callable[[], Tensor], label_N: Tensor
    ) -> dict[str, Tensor]:
        """One forward and one backward pass: the gradient of each image's own cross-entropy.

        Summed over images, not averaged: in eval mode images do not touch each other, so the
        gradient at an image's maps is that of its own loss. Gradients of parameters are left
        alone.
        """
        with torch.inference_mode(False), torch.enable_grad():
            logits_NK = forward()
            loss = functional.cross_entropy(logits_NK.float(), label_N, reduction="sum")
            gradients = torch.autograd.grad(loss, list(self.output.values()))
        found = dict(zip(self.output, gradients, strict=True))
        self.output = {name: value.detach() for name, value in self.output.items()}
        return found
