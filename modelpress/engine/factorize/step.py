"""The step `factorize`: layers become pairs of thinner ones, where that makes them smaller."""

from __future__ import annotations

import copy
from fnmatch import fnmatchcase

import torch
from torch import nn

from modelpress.engine.factorize.called import uncalled_layers
from modelpress.engine.factorize.pair import insert_pair
from modelpress.engine.factorize.rank import (
    choose_rank,
    full_rank,
    largest_smaller_rank,
    matrix_shape,
    scheme_of,
    untreated_reason,
)
from modelpress.engine.factorize.svd import Decomposition, decompose, linear_matrix, linear_weights
from modelpress.engine.factorize.vertical_horizontal import convolution_matrix, convolution_weights
from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import factorize_ranks
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.report import LayerChange, SkippedLayer
from modelpress.spec.steps import Factorize


def factorize(network: Network, step: Factorize, context: StepContext) -> StepResult:
    """Replace the chosen layers by pairs of the rank asked for; a layer whose pair would not be smaller stays.

    Raises IncompatibleSpec when no layer matches, when a rank is above a layer's full rank, or when it trains without
    data; and Diverged.
    """
    if step.training is not None:
        training_data(context)
    result = Network(copy.deepcopy(network.module), network.description, dict(network.masks), dict(network.grids))
    layers = weighted_layers(result.module)
    reasons = _reasons(result, layers)
    able = [name for name in layers if name not in reasons]
    try:
        ranks = factorize_ranks(step, able)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    _check_ranks(ranks, layers)

    skipped = [SkippedLayer(name=name, reason=reason) for name, reason in reasons.items() if _is_meant(name, step)]
    changes: dict[str, LayerChange] = {}
    for name in ranks:
        layer = layers[name]
        decomposition = decompose(_matrix(layer))
        rank = choose_rank(step.rank, name, decomposition.values, matrix_shape(layer) or (0, 0))
        if rank == 0:
            skipped.append(SkippedLayer(name=name, reason="none of its singular values is above the noise (EVBMF)"))
            continue
        most = largest_smaller_rank(layer)
        if rank > most:
            skipped.append(SkippedLayer(name=name, reason=_not_smaller(rank, most)))
            continue
        edit = FactorizedLayer(layer=name, scheme=scheme_of(layer), rank=rank)
        insert_pair(result.module, edit)
        _fill(result.module.get_submodule(name), layer, decomposition)
        result.description = result.description.model_copy(update={"edits": (*result.description.edits, edit)})
        result.masks.pop(f"{name}.weight", None)
        result.grids.pop(f"{name}.weight", None)
        changes[name] = layer_change(name, layer, result.module.get_submodule(name), rank)

    summary = None
    if step.training is not None:
        summary = recover(result, step.training, context)
    return StepResult(result, layers=tuple(changes.values()), skipped=tuple(skipped), training=summary)


def _reasons(network: Network, layers: dict[str, nn.Module]) -> dict[str, str]:
    """Layers that no pair can replace, and why."""
    uncalled = uncalled_layers(network.module, network.description.input_shape)
    reasons = {}
    for name, layer in layers.items():
        reason = untreated_reason(layer)
        if reason is None and name in uncalled:
            reason = "the network reads its weight without calling it, or uses it in training only"
        if reason is not None:
            reasons[name] = reason
    return reasons


def _check_ranks(ranks: dict[str, int | None], layers: dict[str, nn.Module]) -> None:
    for name, rank in ranks.items():
        full = full_rank(layers[name])
        if rank is not None and full is not None and rank > full:
            raise IncompatibleSpec(
                f"rank {rank} is above the full rank {full} of layer {name!r}; "
                "lower it, exclude the layer, or use a `ratio`"
            )


def _is_meant(name: str, step: Factorize) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in step.layers.include) and not any(
        fnmatchcase(name, pattern) for pattern in step.layers.exclude
    )


def _not_smaller(rank: int, most: int) -> str:
    if most == 0:
        return "no pair is smaller than the layer"
    return f"a pair of rank {rank} would not be smaller; up to rank {most} it is"


def _matrix(layer: nn.Module) -> torch.Tensor:
    if isinstance(layer, nn.Conv2d):
        return convolution_matrix(layer)
    if isinstance(layer, nn.Linear):
        return linear_matrix(layer)
    raise TypeError(f"layers of type {type(layer).__name__} are not factorized")


@torch.no_grad()
def _fill(pair: nn.Module, layer: nn.Module, decomposition: Decomposition) -> None:
    """Give a pair the weights that come closest to the layer's."""
    first, second = pair.get_parameter("0.weight"), pair.get_parameter("1.weight")
    halves = decomposition.halves(first.shape[0])
    weights = convolution_weights(halves, layer) if isinstance(layer, nn.Conv2d) else linear_weights(halves)
    first.copy_(weights[0])
    second.copy_(weights[1])
    if layer.bias is not None:
        pair.get_parameter("1.bias").copy_(layer.get_parameter("bias"))
