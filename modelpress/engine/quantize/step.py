"""The step `quantize`: the weights of each layer take few values."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, layer_type, layer_types, weighted_layers
from modelpress.engine.quantize.codebook import codebook_grid
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.held import HeldGrids
from modelpress.engine.quantize.rate import RatePenalty
from modelpress.engine.quantize.uniform import uniform_grid
from modelpress.engine.quantize.vectors import fold_norms, round_vectors
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import quantize_bits, select_layers
from modelpress.spec.check.layers import picked_layers
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.report import SkippedLayer, TrainingSummary
from modelpress.spec.steps import Quantize
from modelpress.spec.training import Recovery


def quantize(network: Network, step: Quantize, context: StepContext) -> StepResult:
    """Move the chosen layers' weights onto grids of 2^bits values at most, and train them there if the step trains.

    Every other tensor stays as it is, and matrices among them are named, unless the step folds norms and rounds
    vectors; weights that are zero stay zero. Raises IncompatibleSpec when no layer matches or when it trains without
    data; and Diverged.
    """
    if step.training is not None:
        training_data(context)
    quantized = copy.deepcopy(network)
    layers = weighted_layers(quantized.module)
    try:
        chosen = select_layers(layer_types(layers), step.layers)
        bits = quantize_bits(step, list(layers), chosen)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    for name in chosen:
        weight = layers[name].get_parameter("weight")
        grid = grid_for(weight, step, bits[name])
        quantized.grids[f"{name}.weight"] = grid
        if step.training is None:  # else the training starts from the weights as they are
            with torch.no_grad():
                weight.copy_(grid.nearest(weight))
    summary = None
    if step.training is not None:
        summary = _train(quantized, step, step.training, context, [f"{name}.weight" for name in chosen])
    left = fold_norms(quantized) if step.fold_norms else ()
    if step.vectors == "bf16":
        round_vectors(quantized)
    before = weighted_layers(network.module)
    return StepResult(
        quantized,
        layers=tuple(layer_change(name, before[name], layers[name], bits=bits[name]) for name in chosen),
        skipped=unquantized(quantized.module, layers, step) + left,
        training=summary,
    )


def _train(
    network: Network, step: Quantize, training: Recovery, context: StepContext, names: Sequence[str]
) -> TrainingSummary:
    """The step's training, in which the grids of `names` follow, and are penalised, as it says."""
    network.module.to(context.device)
    grids = HeldGrids(network.module, network.grids, learned=names if step.step_sizes == "learned" else ())
    if step.rate == 0:
        return recover(network, training, context, grids=grids)
    penalty = RatePenalty(network.module, grids, names, step.rate)
    return recover(
        network,
        training,
        context,
        grids=grids,
        after_backward=penalty.add_gradients,
        beside={"rate": penalty},
        metrics=penalty.metrics,
    )


def unquantized(module: nn.Module, layers: Mapping[str, nn.Module], step: Quantize) -> tuple[SkippedLayer, ...]:
    """Matrices of chosen modules that are no layer's weight, such as the three in one of an attention."""
    reason = "it is not the weight of a linear or convolution layer, and stays fp32"
    owners = {name: name.rpartition(".")[0] for name, parameter in module.named_parameters() if parameter.ndim > 1}
    types = {owner: layer_type(module.get_submodule(owner)) for owner in owners.values() if owner not in layers}
    chosen = set(picked_layers(types, step.layers))
    return tuple(SkippedLayer(name=name, reason=reason) for name, owner in owners.items() if owner in chosen)


def grid_for(weight: Tensor, step: Quantize, bits: int) -> Grid:
    """The grid that a step finds for a weight (C, ...)."""
    if step.scheme == "codebook":
        return codebook_grid(weight, bits)
    return uniform_grid(weight, bits, step.calibration)
