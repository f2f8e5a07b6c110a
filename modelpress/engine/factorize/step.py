"""The step `factorize`: layers become pairs of thinner ones, where that makes them smaller."""

from __future__ import annotations

import copy

import torch
from torch import nn

from modelpress.engine.factorize.budget import budget_ranks
from modelpress.engine.factorize.called import untreated_layers
from modelpress.engine.factorize.chain import INSERT, fill_chain
from modelpress.engine.factorize.channel_svd import channel_matrix, channel_weights
from modelpress.engine.factorize.fold import fold, foldable_norms
from modelpress.engine.factorize.pair import insert_pair
from modelpress.engine.factorize.rank import (
    Scheme,
    choose_rank,
    full_rank,
    largest_smaller_rank,
    matrix_shape,
    scheme_of,
)
from modelpress.engine.factorize.svd import Decomposition, decompose, linear_matrix, linear_weights, singular_values
from modelpress.engine.factorize.tensor_rank import find_chain
from modelpress.engine.factorize.vertical_horizontal import convolution_matrix, convolution_weights
from modelpress.engine.factorize.whitening import calibration_batches, input_moments, whitened_decomposition
from modelpress.engine.layer_change import layer_change
from modelpress.engine.measure import evaluating
from modelpress.engine.network import Network, layer_type, layer_types, weighted_layers
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import factorize_ranks
from modelpress.spec.check.factorize import budget_weights, unwhitened_reason
from modelpress.spec.check.layers import is_selected
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import CpLayer, FactorizedLayer, FoldedNorm, TuckerLayer
from modelpress.spec.report import LayerChange, SkippedLayer
from modelpress.spec.steps import AnyRank, ConvolutionScheme, Factorize, RankBudget


def factorize(network: Network, step: Factorize, context: StepContext) -> StepResult:
    """Replace the chosen layers by pairs of the rank asked for; a layer whose pair would not be smaller stays.

    Raises IncompatibleSpec when no layer matches, when a rank is above a layer's full rank, when a budget is below
    what rank 1 leaves, or when it trains without data; and Diverged.
    """
    if step.training is not None or step.whiten:
        training_data(context)
    result = Network(copy.deepcopy(network.module), network.description, dict(network.masks), dict(network.grids))
    layers = weighted_layers(result.module)
    reasons = untreated_layers(result.module, network.description.input_shape)
    able = [name for name in layers if name not in reasons]
    try:
        ranks = factorize_ranks(step, layer_types({name: layers[name] for name in able}))
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    _check_ranks(ranks, layers, step.scheme)
    if reason := unwhitened_reason(step, {name: layers[name].get_parameter("weight").shape for name in ranks}):
        raise IncompatibleSpec(reason)

    skipped = [
        SkippedLayer(name=name, reason=reason)
        for name, reason in reasons.items()
        if is_selected(name, layer_type(layers[name]), step.layers)
    ]
    if step.fold_batch_norm:
        skipped += _fold_norms(result, list(ranks))
    decompositions = _whitened(network, step, context, {name: layers[name] for name in ranks})
    kept_ranks = _budget_ranks(step, {name: layers[name] for name in ranks}, decompositions)
    changes: dict[str, LayerChange] = {}
    for name in ranks:
        layer = layers[name]
        scheme = scheme_of(layer, step.scheme)
        if isinstance(layer, nn.Conv2d) and (scheme == "tucker2" or scheme == "cp"):
            chain = find_chain(layer, name, scheme, step.rank, context.seed)
            if isinstance(chain, SkippedLayer):
                skipped.append(chain)
                continue
            INSERT[chain.edit.kind](result.module, chain.edit)
            fill_chain(result.module.get_submodule(name), layer, chain.weights)
            _replaced(result, name, chain.edit)
            changes[name] = layer_change(name, layer, result.module.get_submodule(name), chain.rank)
            continue
        most = largest_smaller_rank(layer, step.scheme)
        if name in kept_ranks and kept_ranks[name] is None:
            reason = "the budget keeps it whole" if most > 0 else "no pair is smaller than the layer"
            skipped.append(SkippedLayer(name=name, reason=reason))
            continue
        decomposition = decompositions.pop(name) if name in decompositions else decompose(_matrix(layer, scheme))
        rank = _rank(step.rank, name, decomposition, kept_ranks)
        if rank == 0:
            skipped.append(SkippedLayer(name=name, reason="none of its singular values is above the noise (EVBMF)"))
            continue
        if rank > most:
            skipped.append(SkippedLayer(name=name, reason=_not_smaller(rank, most)))
            continue
        edit = FactorizedLayer(layer=name, scheme=scheme, rank=rank)
        insert_pair(result.module, edit)
        _fill(result.module.get_submodule(name), layer, scheme, decomposition)
        _replaced(result, name, edit)
        changes[name] = layer_change(name, layer, result.module.get_submodule(name), rank)

    summary = None
    if step.training is not None:
        summary = recover(result, step.training, context)
    return StepResult(result, layers=tuple(changes.values()), skipped=tuple(skipped), training=summary)


def _replaced(result: Network, name: str, edit: FactorizedLayer | TuckerLayer | CpLayer) -> None:
    """Note what took a layer's place; what was to be held of its weight goes with it."""
    result.description = result.description.edited(edit)
    result.masks.pop(f"{name}.weight", None)
    result.grids.pop(f"{name}.weight", None)


def _fold_norms(result: Network, names: list[str]) -> list[SkippedLayer]:
    """Fold the norms behind these convolutions in place; gives those norms that are left, and why."""
    pairs, left = foldable_norms(result.module)
    for norm, convolution in pairs.items():
        if convolution in names:
            edit = FoldedNorm(layer=norm, into=convolution)
            fold(result.module, edit)
            result.description = result.description.edited(edit)
            # Scaled by channel, zeros are zeros still, but quantized values are others.
            result.grids.pop(f"{convolution}.weight", None)
    return [SkippedLayer(name=name, reason=reason) for name, reason in left.items()]


def _whitened(
    network: Network, step: Factorize, context: StepContext, layers: dict[str, nn.Module]
) -> dict[str, Decomposition]:
    """Decompositions of the layers for the inputs that training images give them; none when the step does not whiten.

    The inputs are those of the network that went in, as folding does not change them.
    """
    if not step.whiten:
        return {}
    batches = calibration_batches(network, context, step.calibration_images)
    given = weighted_layers(network.module)
    with evaluating(network.module):
        return {
            name: whitened_decomposition(_matrix(layers[name], scheme_of(layers[name], step.scheme)), moment)
            for name, moment in input_moments(network.module, {name: given[name] for name in layers}, batches)
        }


def _budget_ranks(
    step: Factorize, layers: dict[str, nn.Module], decompositions: dict[str, Decomposition]
) -> dict[str, int | None]:
    """Ranks that share the budget, None for a layer that stays whole; no layers when the step has no budget."""
    if not isinstance(step.rank, RankBudget):
        return {}
    shapes = {name: matrix_shape(layer, step.scheme) or (0, 0) for name, layer in layers.items()}
    try:
        weights = budget_weights(step.rank, shapes.values())
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    # Values alone, decomposed again later: the vectors of every layer at once may not fit into memory.
    spectra = {
        name: decompositions[name].values
        if name in decompositions
        else singular_values(_matrix(layer, scheme_of(layer, step.scheme)))
        for name, layer in layers.items()
    }
    return budget_ranks(spectra, shapes, weights)


def _rank(rank: AnyRank, name: str, decomposition: Decomposition, kept_ranks: dict[str, int | None]) -> int:
    if isinstance(rank, RankBudget):
        return kept_ranks[name] or 0
    shape = decomposition.left.shape[0], decomposition.right.shape[1]
    return choose_rank(rank, name, decomposition.values, shape)


def _check_ranks(ranks: dict[str, int | None], layers: dict[str, nn.Module], scheme: ConvolutionScheme) -> None:
    for name, rank in ranks.items():
        full = full_rank(layers[name], scheme)
        if rank is not None and full is not None and rank > full:
            raise IncompatibleSpec(
                f"rank {rank} is above the full rank {full} of layer {name!r}; "
                "lower it, exclude the layer, or use a `ratio`"
            )


def _not_smaller(rank: int, most: int) -> str:
    if most == 0:
        return "no pair is smaller than the layer"
    return f"a pair of rank {rank} would not be smaller; up to rank {most} it is"


def _matrix(layer: nn.Module, scheme: Scheme) -> torch.Tensor:
    if isinstance(layer, nn.Conv2d):
        if scheme == "channel_svd":
            return channel_matrix(layer)
        return convolution_matrix(layer)
    if isinstance(layer, nn.Linear):
        return linear_matrix(layer)
    raise TypeError(f"layers of type {type(layer).__name__} are not factorized")


@torch.no_grad()
def _fill(pair: nn.Module, layer: nn.Module, scheme: Scheme, decomposition: Decomposition) -> None:
    """Give a pair the weights that come closest to the layer's."""
    first, second = pair.get_parameter("0.weight"), pair.get_parameter("1.weight")
    halves = decomposition.halves(first.shape[0])
    if not isinstance(layer, nn.Conv2d):
        weights = linear_weights(halves)
    elif scheme == "channel_svd":
        weights = channel_weights(halves, layer)
    else:
        weights = convolution_weights(halves, layer)
    first.copy_(weights[0])
    second.copy_(weights[1])
    if layer.bias is not None:
        pair.get_parameter("1.bias").copy_(layer.get_parameter("bias"))
