"""What every backbone is: a torchvision net with its head replaced, and the places where it can be
pruned.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.errors import UserError
from trainables.specs import Spec


class Backbone(ABC):
    """One architecture: a typed ``Config``, ``build``, and the names of its prunable layers."""

    name: ClassVar[str]
    VERSION: ClassVar[int] = 1
    last_conv: ClassVar[str]
    default_site: ClassVar[str]

    class Config(Spec):
        """``weights``: ``none``, ``imagenet``, or the path of a state dict (.safetensors).
        """

        name: str
        weights: str = "none"

        def key_fields(self) -> dict[str, Any]:
            """The content of a weights file, not its path, is part of a key."""
            fields = super().key_fields()
            if self.weights not in ("none", "imagenet"):
                path = Path(self.weights).expanduser()
                if not path.is_file():
                    raise UserError(
                        f"weights: no such file {self.weights!r} (backbone {self.name})"
                    )
                stat = path.stat()
                fields["weights"] = "sha256:" + _digest(path, stat.st_size, stat.st_mtime_ns)
            return fields

    @classmethod
    @abstractmethod
    def construct(cls, config: Any, num_outputs: int, weights: Any) -> nn.Module:
        """The net with ``num_outputs`` logits; ``weights`` is torchvision's enum or None."""

    @classmethod
    @abstractmethod
    def imagenet_weights(cls) -> Any:
        """Torchvision's enum of ImageNet weights."""

    @classmethod
    @abstractmethod
    def head_prefix(cls) -> str:
        """Prefix of the replaced layer's parameters, which a weights file need not fit."""

    @classmethod
    def build(cls, config: Any, num_outputs: int, generator: torch.Generator) -> nn.Module:
        """The initialised net; every random number comes from ``generator``.

        Raises:
            UserError: the weights cannot be had or do not fit.
        """
        net = cls.skeleton(config, num_outputs, seed=generator.initial_seed())
        if config.weights == "imagenet":
            cls._load(net, cls._download(), place="imagenet")
        elif config.weights != "none":
            cls._load(net, _read_state(Path(config.weights).expanduser()), place=config.weights)
        return net

    @classmethod
    def skeleton(cls, config: Any, num_outputs: int, seed: int = 0) -> nn.Module:
        """The net without pretrained weights; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls.construct(config, num_outputs, None)

    @classmethod
    def shell(cls, config: Any, num_outputs: int) -> nn.Module:
        """The net for stored weights, which take the place of all of its own: nothing is drawn."""
        with torch.random.fork_rng(devices=[]), _NothingDrawn():
            return cls.construct(config, num_outputs, None)

    @classmethod
    @functools.cache
    def convolutions(cls, config: Any) -> tuple[str, ...]:
        """Names of all convolutions, in the order of the net."""
        with torch.device("meta"):
            net = cls.construct(config, 2, None)
        return tuple(n for n, module in net.named_modules() if isinstance(module, nn.Conv2d))

    @classmethod
    def resolved_layer(cls, config: Any, layer: str) -> str:
        """``Prune.layer`` with ``last`` replaced by its name; several names in the order of the
        net, each once, and ``all`` where that is all.

        Raises:
            UserError: one of several is not a convolution of this net.
        """
        names = {cls.last_conv if name == "last" else name for name in layer.split(",")}
        if "," not in layer:
            return names.pop()
        convs = cls.convolutions(config)
        for name in sorted(names):
            if name not in convs:
                near = difflib.get_close_matches(name, convs, n=1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                known = ", ".join(convs)
                raise UserError(
                    f"layer {name!r} is not a convolution of {cls.name}{hint} (it has: {known})"
                )
        return "all" if names == set(convs) else ",".join(n for n in convs if n in names)

    @classmethod
    def _download(cls) -> dict[str, torch.Tensor]:
        try:
            # torchvision's default would unpickle whatever the server sends
            weights = cls.imagenet_weights()
            found = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
            return dict(found)
        except OSError as error:
            raise UserError(
                f"weights: imagenet could not be downloaded ({error}); "
                f"give the path of a state dict instead (backbone {cls.name})"
            ) from None

    @classmethod
    def _load(cls, net: nn.Module, state: dict[str, torch.Tensor], place: str) -> None:
        own = net.state_dict()
        body = {k: v for k, v in state.items() if not k.startswith(cls.head_prefix())}
        wrong = [k for k, v in body.items() if k not in own or own[k].shape != v.shape]
        missing = [k for k in own if k not in body and not k.startswith(cls.head_prefix())]
        if wrong or missing:
            raise UserError(
                f"weights: {place} does not fit {cls.name}: {len(missing)} tensors missing, "
                f"{len(wrong)} unknown or of another shape (first: {(missing + wrong)[0]})"
            )
        net.load_state_dict(body, strict=False)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, num_bytes: int, mtime_ns: int) -> str:
    """SHA-256 of a file as it is now; read once, not once a key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file; a pickle (.pt, .pth) could run code and is not opened.

    Raises:
        UserError: another kind of file, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise UserError(
            f"weights: {path} is not a .safetensors file; a .pt or .pth file is a pickle, which "
            "can run code: load it where you trust it and save it with "
            "safetensors.torch.save_file"
        )
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights: {path} is no whole safetensors file ({error})") from None


class _NothingDrawn(TorchFunctionMode):
    """Within it tensors that would be filled with random numbers stay as they are: of a net that
    is loaded they are most of the time (VGG-11: a second).
    """

    DRAWS = (
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_uniform_,
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
