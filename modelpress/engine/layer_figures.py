"""The table of a network's layers: what each holds, what it computes, and how much of the time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import nn

from modelpress.engine.latency import torch_threads
from modelpress.engine.measure import count_layer_macs, count_parameters, evaluating
from modelpress.engine.network import layer_type, weighted_layers
from modelpress.spec.network import CpLayer, FactorizedLayer, NetworkDescription, TuckerLayer
from modelpress.spec.report import LayerFigures

_SECONDS = 0.2
_LEAST_PASSES, _MOST_PASSES = 3, 50


def layer_figures(module: nn.Module, description: NetworkDescription) -> tuple[int, tuple[LayerFigures, ...]]:
    """Multiply-accumulates of the whole network, and the figures of its weighted layers, in `named_modules()` order.

    `module` is on the CPU. Two names of one layer are two rows. A layer whose weight is used without calling it, as
    attention does with its output projection, has no multiply-accumulates and no time of its own.
    """
    layers = weighted_layers(module)
    macs, by_layer = count_layer_macs(module, layers, description.input_shape)
    shares = _time_shares(module, layers, description.input_shape)
    ranks = _ranks(description, layers)
    return macs, tuple(
        LayerFigures(
            name=name,
            type=layer_type(layer),
            weight_shape=tuple(layer.get_parameter("weight").shape),
            parameters=count_parameters(layer),
            sparsity=float((layer.get_parameter("weight") == 0).double().mean()),
            rank=_rank_of(name, ranks),
            macs=by_layer[name],
            time_share=shares[name],
        )
        for name, layer in layers.items()
    )


def _ranks(description: NetworkDescription, layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """Rank by the name of the layer that was factorized; less where channels between its parts were removed since."""
    ranks = {}
    for edit in description.edits:
        if isinstance(edit, FactorizedLayer | CpLayer):
            ranks[edit.layer] = _outputs(layers, f"{edit.layer}.0", edit.rank)
        elif isinstance(edit, TuckerLayer):
            given = _outputs(layers, f"{edit.layer}.0", edit.input_rank)
            ranks[edit.layer] = min(given, _outputs(layers, f"{edit.layer}.1", edit.output_rank))
    return ranks


def _outputs(layers: Mapping[str, nn.Module], name: str, most: int) -> int:
    """Outputs of a part, of one group; `most` where it is no layer with weights, as one that was factorized again."""
    layer = layers.get(name)
    if layer is None:
        return most
    return min(most, len(layer.get_parameter("weight")) // int(getattr(layer, "groups", 1)))


def _rank_of(name: str, ranks: Mapping[str, int]) -> int | None:
    """Of the innermost factorization that a layer is part of."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in ranks:
            return ranks[name]
    return ranks.get("")


@torch.inference_mode()
def _time_shares(module: nn.Module, layers: Mapping[str, nn.Module], input_shape: Sequence[int]) -> dict[str, float]:
    """Share of each layer's calls in the time of a pass: medians over passes of one image, with one thread."""
    image = torch.zeros(1, *input_shape)
    passes: dict[str, list[float]] = {name: [] for name in layers}
    totals: list[float] = []
    begun: dict[str, float] = {}
    spent = dict.fromkeys(layers, 0.0)

    def begin(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            begun[name] = time.perf_counter()

        return hook

    def end(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            spent[name] += time.perf_counter() - begun[name]

        return hook

    hooks = [layer.register_forward_pre_hook(begin(name)) for name, layer in layers.items()]
    hooks += [layer.register_forward_hook(end(name)) for name, layer in layers.items()]
    try:
        with evaluating(module), torch_threads(1):
            module(image)  # warms up
            while len(totals) < _LEAST_PASSES or (sum(totals) < _SECONDS and len(totals) < _MOST_PASSES):
                spent = dict.fromkeys(layers, 0.0)
                start = time.perf_counter()
                module(image)
                totals.append(time.perf_counter() - start)
                for name, seconds in spent.items():
                    passes[name].append(seconds)
    finally:
        for hook in hooks:
            hook.remove()
    whole = median(totals)
    return {name: min(1.0, median(seconds) / whole) for name, seconds in passes.items()}
