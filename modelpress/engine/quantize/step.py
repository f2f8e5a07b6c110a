"""The step `quantize`: the weights of each layer take few values."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.quantize.codebook import codebook_grid
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.uniform import uniform_grid
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import quantize_bits, select_layers
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Quantize


def quantize(network: Network, step: Quantize, context: StepContext) -> StepResult:
    """Move the chosen layers' weights onto grids of 2^bits values at most, and train them there if the step trains.

    Biases, norms and every other tensor stay as they are; weights that are zero stay zero. Raises IncompatibleSpec
    when no layer matches or when it trains without data; and Diverged.
    """
    if step.training is not None:
        training_data(context)
    quantized = copy.deepcopy(network)
    layers = weighted_layers(quantized.module)
    try:
        chosen = select_layers(list(layers), step.layers)
        bits = quantize_bits(step, list(layers), chosen)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    for name in chosen:
        weight = layers[name].get_parameter("weight")
        grid = _grid(weight, step, bits[name])
        quantized.grids[f"{name}.weight"] = grid
        if step.training is None:  # else the training starts from the weights as they are
            with torch.no_grad():
                weight.copy_(grid.nearest(weight))
    summary = None
    if step.training is not None:
        summary = recover(quantized, step.training, context)
    before = weighted_layers(network.module)
    return StepResult(
        quantized,
        layers=tuple(layer_change(name, before[name], layers[name], bits=bits[name]) for name in chosen),
        training=summary,
    )


def _grid(weight: Tensor, step: Quantize, bits: int) -> Grid:
    if step.scheme == "codebook":
        return codebook_grid(weight, bits)
    return uniform_grid(weight, bits, step.calibration)
