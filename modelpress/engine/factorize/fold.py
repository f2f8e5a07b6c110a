"""Batch norms folded into the convolutions before them: one operation less, and exactly the same in evaluation mode.

A norm scales channel n by s = weight / sqrt(running_var + eps) and shifts it. A convolution with the kernel s W and
the bias s (b - running_mean) + bias does that by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from modelpress.engine.architectures.registry import REJECTED
from modelpress.engine.graphs.network import GraphNetwork, graph_of, weights_of_operators
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import LayerCall, values_of
from modelpress.spec.network import FoldedNorm


def foldable_norms(module: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Norms with the convolution that each can be folded into, and the norms that cannot with the reason.

    The dataflow is that of the graph, or of a symbolic trace where the network is none: the convolution's output goes
    to the norm and nowhere else, and both are called once.
    """
    norms = {name: layer for name, layer in module.named_modules() if type(layer) is nn.BatchNorm2d}
    if not norms:
        return {}, {}
    try:
        flow = _flow_of_graph(module) if isinstance(module, GraphNetwork) else _flow_of_trace(module)
    except REJECTED:  # A network's own code may stumble over the proxies that it is given.
        return {}, dict.fromkeys(norms, "the network's dataflow cannot be traced, so its norms are not folded")
    layers = dict(module.named_modules())
    calls = Counter(id(layers[name]) for name in flow.calls)
    pairs: dict[str, str] = {}
    for name, into in flow.behind.items():
        once = calls[id(layers[name])] == calls[id(layers[into])] == 1
        unread = not any(weight.startswith((f"{name}.", f"{into}.")) for weight in flow.read)
        if name in norms and once and unread and misfit(layers[into], layers[name]) is None:
            pairs[name] = into
    reason = "it does not follow a convolution whose output nothing else uses, so it is not folded"
    return pairs, {name: reason for name in norms if name not in pairs}


@dataclass(frozen=True)
class _Flow:
    """What layers give to one another, by their names."""

    calls: Sequence[str]  # each call's layer
    behind: Mapping[str, str]  # a layer, and the one whose output it takes and nothing else does
    read: Collection[str]  # weights that something else than their layer takes


def _flow_of_trace(module: nn.Module) -> _Flow:
    nodes = list(fx.Tracer().trace(module).nodes)
    called = [node for node in nodes if node.op == "call_module"]
    sources = {str(node.target): node.args[0] for node in called if node.args}
    return _Flow(
        calls=[str(node.target) for node in called],
        behind={
            name: str(source.target)
            for name, source in sources.items()
            if isinstance(source, fx.Node) and source.op == "call_module" and len(source.users) == 1
        },
        read={str(node.target) for node in nodes if node.op == "get_attr"},
    )


def _flow_of_graph(module: GraphNetwork) -> _Flow:
    graph = graph_of(module)
    users = Counter(name for node in graph.nodes for name in set(values_of(node)))
    users.update(graph.outputs)
    calls: list[str] = []
    behind: dict[str, str] = {}
    makers: dict[str, str] = {}  # of values that nothing else takes
    for node in graph.nodes:
        if not isinstance(node, LayerCall):
            continue
        parts = _parts(module, node.layer)
        calls += parts
        behind |= dict(zip(parts[1:], parts, strict=False))
        if (source := node.inputs[0].value) in makers:
            behind[parts[0]] = makers[source]
        makers |= {name: parts[-1] for name in node.outputs if users[name] == 1}
    return _Flow(calls, behind, weights_of_operators(module))


def _parts(module: nn.Module, name: str) -> list[str]:
    """The layer itself or, where a step has put several into its place one after the other, these."""
    layer = module.get_submodule(name)
    if type(layer) is not nn.Sequential or not len(layer):
        return [name]
    return [part for within, _ in layer.named_children() for part in _parts(module, f"{name}.{within}")]


def misfit(convolution: nn.Module, norm: nn.Module) -> str | None:
    """Why a norm cannot be folded into a convolution, in words; None when it can."""
    if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
        return "only a BatchNorm2d is folded, and only into a Conv2d"
    if norm.num_features != convolution.out_channels:
        return f"the norm has {norm.num_features} channels, the convolution {convolution.out_channels}"
    if norm.running_mean is None or norm.running_var is None:
        return "the norm has no running statistics"
    return None


def insert_fold(module: nn.Module, edit: FoldedNorm) -> None:
    """Replace the norm `edit.layer` by an identity and give the convolution `edit.into` a bias, in place.

    Weights stay as they are. Raises InvalidModel when they are not a convolution and a norm that fit.
    """
    convolution, norm = _both(module, edit)
    if convolution.bias is None:
        weight = convolution.weight
        convolution.bias = nn.Parameter(torch.zeros(len(weight), device=weight.device, dtype=weight.dtype))
    module.set_submodule(edit.layer, nn.Identity().train(norm.training))


@torch.no_grad()
def fold(module: nn.Module, edit: FoldedNorm) -> Tensor:
    """Fold a norm into its convolution, in place, weights and all; gives the scale of each channel, float64 (C,)."""
    convolution, norm = _both(module, edit)
    insert_fold(module, edit)
    scale = (norm.get_buffer("running_var").double() + norm.eps).rsqrt()
    shift = -norm.get_buffer("running_mean").double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    bias = convolution.get_parameter("bias")
    bias.copy_(bias * scale + shift)
    # A negative scale makes -0.0 of zeros; zeros they stay, of which a container stores nothing.
    convolution.weight.mul_(scale[:, None, None, None].to(convolution.weight.dtype)).add_(0.0)
    return scale


def _both(module: nn.Module, edit: FoldedNorm) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    try:
        convolution, norm = module.get_submodule(edit.into), module.get_submodule(edit.layer)
    except AttributeError as error:
        raise InvalidModel(f"the network has no layers {edit.layer!r} and {edit.into!r} to fold") from error
    reason = "it is the whole network" if module in (convolution, norm) else misfit(convolution, norm)
    if reason is not None or not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        raise InvalidModel(f"norm {edit.layer!r} cannot be folded into {edit.into!r}: {reason}")
    return convolution, norm
