"""Removing channels for real: the sites where a channel is scored and cut (contracts: pruning
sites).

``conv``   the output of a convolution and of the BatchNorm after it; ``block``  the output of a
residual block, after addition and ReLU; ``group``  every channel that must go together, by the
dependency graph (Torch-Pruning; Fang et al. 2023).

A cut net gives the logits of its own masked net: the net in which the outputs of that site are
zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.classifier import Classifier, MapReader
from trainables.models.group_batch_norm import GroupBatchNorm2d, plain_stand_ins
from trainables.models.residual import IndexedBasicBlock

if TYPE_CHECKING:  # both take seconds and 150 MB, which a driver never needs
    import torch_pruning
    from torchvision.models.resnet import BasicBlock

NORMS = (nn.BatchNorm2d, GroupBatchNorm2d)

Readers: TypeAlias = Sequence[nn.Linear | MapReader]
"""Modules beside the net that read its features (``Baseline.feature_heads``)."""

ChannelPlan: TypeAlias = dict[str, dict]
"""Layer -> {"site", "num_channels" (original), "removed" (original indices, ascending)}."""


def find_layer(net: nn.Module, layer: str) -> nn.Conv2d:
    """The convolution called ``layer``.

    Raises:
        UserError: no such convolution; the message lists those there are.
    """
    modules = dict(net.named_modules())
    if not isinstance(modules.get(layer), nn.Conv2d):
        convs = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
        raise UserError(
            f"layer {layer!r} is not a convolution of this net (it has: {', '.join(convs)})"
        )
    return modules[layer]


def _block_of(net: nn.Module, layer: str) -> nn.Module | None:
    """The residual block whose last convolution is ``layer``, if it is one."""
    parent, _, last = layer.rpartition(".")
    module = net.get_submodule(parent)
    return module if last == "conv2" and _is_block(module) else None


def _is_block(module: nn.Module) -> TypeGuard[BasicBlock | IndexedBasicBlock]:
    from torchvision.models.resnet import BasicBlock

    return isinstance(module, (BasicBlock, IndexedBasicBlock))


def is_branch(net: nn.Module, layer: str) -> bool:
    """Whether the layer is the last of a residual block: an identity is added to its output."""
    return _block_of(net, layer) is not None


def site_module(net: nn.Module, layer: str, site: str) -> nn.Module:
    """The module whose output is the site's feature map (N, C, H, W).

    Raises:
        UserError: the layer has no such site.
    """
    conv = find_layer(net, layer)
    block = _block_of(net, layer)
    if site in ("block", "group") and block is not None:
        return block
    if site == "block":
        raise UserError(
            f"site 'block' needs the last convolution of a residual block but got {layer!r}"
        )
    siblings = list(net.get_submodule(layer.rpartition(".")[0]).children())
    after = siblings[siblings.index(conv) + 1 :]
    return after[0] if after and isinstance(after[0], NORMS) else conv


def check_site(net: nn.Module, layer: str, site: str) -> None:
    """Whether the layer can be cut at the site, before anything is trained.

    Raises:
        UserError: no such layer, or it has no such site.
    """
    site_module(net, layer, site)
    if site == "block":
        stage, position, _ = layer.rsplit(".", 2)
        _next_block(net, stage, int(position), layer)


def num_channels(net: nn.Module, layer: str) -> int:
    """Channels the layer has now."""
    return find_layer(net, layer).out_channels


@contextmanager
def masked(net: nn.Module, layer: str, site: str, removed: Sequence[int]) -> Iterator[nn.Module]:
    """Within the context the site's output is zero on the ``removed`` channels (sites ``conv``,
    ``block``).
    """
    index = torch.as_tensor(list(removed))

    def zero(module: nn.Module, args: object, output: Tensor) -> Tensor:
        keep_C = torch.ones(output.shape[1], dtype=output.dtype, device=output.device)
        keep_C[index.to(output.device)] = 0
        return output * keep_C[None, :, None, None]

    handle = site_module(net, layer, site).register_forward_hook(zero)
    try:
        yield net
    finally:
        handle.remove()


def cut(
    net: nn.Module, layer: str, site: str, removed: Sequence[int], heads: Readers = ()
) -> None:
    """Remove channels in place; ``removed`` are positions among the channels the layer has now.

    ``heads`` read the same pooled features as the net's own head, or maps that they name.

    Raises:
        UserError: the site does not exist here, or no channel would be left.
    """
    total = num_channels(net, layer)
    if not removed:
        return
    if len(set(removed)) >= total:
        raise UserError(
            f"layer {layer!r} has {total} channels; {len(set(removed))} cannot be removed"
        )
    keep = torch.tensor([c for c in range(total) if c not in set(removed)])
    block = _block_of(net, layer)
    if site == "group" or (site == "conv" and block is None):
        with plain_stand_ins(net):
            _cut_by_graph(net, layer, site, sorted(removed), heads, keep)
    elif site == "conv":
        _cut_branch(_indexed(net, layer), keep)
    else:
        site_module(net, layer, site)
        _cut_block(net, layer, keep, heads)


def apply_plan(net: nn.Module, plan: ChannelPlan, heads: Readers = ()) -> None:
    """Cut a whole net down to the shape a plan describes (its weights are loaded afterwards)."""
    for layer, entry in plan.items():
        cut(net, layer, entry["site"], entry["removed"], heads)


def extend_plan(
    plan: ChannelPlan, layer: str, site: str, removed: Sequence[int], total: int
) -> ChannelPlan:
    """The plan after removing ``removed`` (positions among the ``total`` channels left) from
    ``layer``.

    Raises:
        UserError: the layer was cut at another site before.
    """
    entry = plan.get(layer, {"site": site, "num_channels": total, "removed": []})
    if entry["site"] != site:
        raise UserError(f"layer {layer!r} was cut at site {entry['site']!r} before, not {site!r}")
    gone = set(entry["removed"])
    left = [c for c in range(entry["num_channels"]) if c not in gone]
    gone |= {left[position] for position in removed}
    return plan | {layer: entry | {"removed": sorted(gone)}}


def removed_between(before: ChannelPlan, after: ChannelPlan) -> dict[str, list[int]]:
    """Layer -> positions (among the channels it had before) that lie between two plans of one
    chain, cut or masked; every layer of the later plan has an entry.
    """
    positions = {}
    for layer, entry in after.items():
        old = before.get(layer, {"removed": []})
        gone = set(entry["removed"]) - set(old["removed"])
        left = [c for c in range(entry["num_channels"]) if c not in set(old["removed"])]
        masked = set(entry.get("masked", [])) - set(old.get("masked", []))
        positions[layer] = sorted({p for p, c in enumerate(left) if c in gone} | masked)
    return positions


def dependency_graph(net: nn.Module) -> torch_pruning.DependencyGraph:
    """Which channels of which layers must go together, read off the net's own autograd graph."""
    import torch_pruning

    graph, training = torch_pruning.DependencyGraph(), net.training
    device = next(net.parameters()).device
    try:
        # gradients must be on; 64 pixels survive every pooling of the backbones
        with torch.inference_mode(False), torch.enable_grad(), plain_stand_ins(net):
            graph.build_dependency(
                net.eval(), example_inputs=torch.zeros(1, 3, 64, 64, device=device)
            )
    finally:
        net.train(training)
    return graph


def pruning_group(
    net: nn.Module, layer: str, positions: Sequence[int], heads: Readers = ()
) -> torch_pruning.Group:
    """What goes with the channels at these positions, in the net and in readers of its maps."""
    import torch_pruning

    maps = [head for head in heads if isinstance(head, MapReader)]
    graph = dependency_graph(_WithReaders(net, maps) if maps else net)
    return graph.get_pruning_group(
        find_layer(net, layer), torch_pruning.prune_conv_out_channels, idxs=list(positions)
    )


def _cut_by_graph(
    net: nn.Module,
    layer: str,
    site: str,
    removed: list[int],
    heads: Readers,
    keep: Tensor,
) -> None:
    import torch_pruning

    conv = find_layer(net, layer)
    group = pruning_group(net, layer, removed, heads)
    modules = [dependency.target.module for dependency, _ in group]
    if site == "conv" and any(
        m is not conv
        and isinstance(m, nn.Conv2d)
        and dep.handler == torch_pruning.prune_conv_out_channels
        for m, (dep, _) in zip(modules, group, strict=True)
    ):
        raise UserError(f"channels of {layer!r} are coupled to other layers: use site 'group'")
    own_head = [
        m
        for m in modules
        if isinstance(m, nn.Linear) and m.in_features == len(keep) + len(removed)
    ]
    group.prune()
    if own_head:
        for head in heads:
            if isinstance(head, nn.Linear):
                _keep_inputs(head, keep)


class _WithReaders(nn.Module):
    """The net and what reads its maps, so that one dependency graph holds both."""

    def __init__(self, net: nn.Module, readers: Sequence[MapReader]) -> None:
        super().__init__()
        self.net = Classifier(net)
        self.readers = nn.ModuleList(reader.module for reader in readers)
        self._sources = [reader.source for reader in readers]
        self.training = net.training

    def forward(self, image_NCHW: Tensor) -> list[Tensor]:
        maps, output = self.net.forward_maps(image_NCHW, self._sources)
        return [output, *(r(m) for r, m in zip(self.readers, maps, strict=True))]


def _indexed(net: nn.Module, layer: str) -> IndexedBasicBlock:
    name = layer.rpartition(".")[0]
    block = net.get_submodule(name)
    if _is_block(block) and not isinstance(block, IndexedBasicBlock):
        training = block.training
        block = IndexedBasicBlock(block).train(training)
        net.set_submodule(name, block)
    assert isinstance(block, IndexedBasicBlock)
    return block


def _cut_branch(block: IndexedBasicBlock, keep: Tensor) -> None:
    _keep_outputs(block.conv2, block.bn2, keep)
    block.branch_index = block.branch_index[keep.to(block.branch_index.device)]


def _cut_block(net: nn.Module, layer: str, keep: Tensor, heads: Readers) -> None:
    readers = block_readers(net, layer, heads)
    block = _indexed(net, layer)
    _keep_outputs(block.conv2, block.bn2, keep)
    block.output_index = block.output_index[keep.to(block.output_index.device)]
    block.branch_index = torch.arange(len(keep), device=block.output_index.device)
    for reader in readers:
        _keep_inputs(reader, keep)


def block_readers(
    net: nn.Module, layer: str, heads: Readers = ()
) -> list[nn.Linear | nn.Conv2d]:
    """The modules that read the output of the residual block whose last convolution this is.

    Raises:
        UserError: it is not the last block of a stage.
    """
    stage, position, _ = layer.rsplit(".", 2)
    following = _next_block(net, stage, int(position), layer)
    names = ["fc"] if following is None else [f"{following}.conv1", f"{following}.downsample.0"]
    readers = [net.get_submodule(name) for name in names]
    if following is None:
        readers += [head for head in heads if isinstance(head, nn.Linear)]
    maps = [head for head in heads if isinstance(head, MapReader)]
    readers += [m.module for m in maps if m.source in (stage, f"{stage}.{position}")]
    return [reader for reader in readers if isinstance(reader, nn.Linear | nn.Conv2d)]


def _next_block(net: nn.Module, stage: str, position: int, layer: str) -> str | None:
    """Name of the block that reads the stage's output; None after the last stage."""
    blocks = net.get_submodule(stage)
    if position + 1 < len(blocks):  # type: ignore[arg-type]
        raise UserError(
            f"site 'block' needs the last block of a stage but got {layer!r}: use site 'group'"
        )
    upper = f"{stage[:-1]}{int(stage[-1]) + 1}"
    return f"{upper}.0" if hasattr(net, upper) else None


def _keep_outputs(
    conv: nn.Conv2d, norm: nn.BatchNorm2d | GroupBatchNorm2d, keep: Tensor
) -> None:
    conv.weight = _select(conv.weight, keep)
    if conv.bias is not None:
        conv.bias = _select(conv.bias, keep)
    conv.out_channels = len(keep)
    if isinstance(norm, GroupBatchNorm2d):
        norm.keep_channels(keep)
        return
    norm.weight, norm.bias = _select(norm.weight, keep), _select(norm.bias, keep)
    index = keep.to(norm.weight.device)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean, norm.running_var = norm.running_mean[index], norm.running_var[index]
    norm.num_features = len(keep)


def _keep_inputs(module: nn.Linear | nn.Conv2d, keep: Tensor) -> None:
    module.weight = _select(module.weight, keep, dim=1)
    if isinstance(module, nn.Linear):
        module.in_features = len(keep)
    else:
        module.in_channels = len(keep)


def _select(parameter: Tensor, keep: Tensor, dim: int = 0) -> nn.Parameter:
    value = parameter.detach().index_select(dim, keep.to(parameter.device)).clone()
    return nn.Parameter(value, requires_grad=parameter.requires_grad)
