"""Samples of weights as the steps `prune`, `quantize` and `factorize` would leave them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from modelpress.engine.estimate.outlook import Outlook
from modelpress.engine.estimate.sample import Sample, rows_of
from modelpress.engine.factorize.schemes import SCHEMES
from modelpress.engine.factorize.split import whole_reason
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.quantize.step import grid_for, unquantized
from modelpress.spec.check import quantize_bits, select_layers
from modelpress.spec.check.factorize import factorize_ranks, unfactorized_layers, unfactorized_reason
from modelpress.spec.check.split import matrix_shape, scheme_of
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.network import FactorizedLayer
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import Factorize, Prune, Quantize


def prune(outlook: Outlook, step: Prune) -> Outlook:
    """Without this share of the weights of all chosen layers together, the smallest by magnitude.

    Raises IncompatibleSpec when more of them are zero already.
    """
    names = [f"{name}.weight" for name in select_layers(outlook.layers, step.layers)]
    samples = [outlook.tensors[name] for name in names]
    magnitudes = torch.cat([sample.rows.abs().flatten() for sample in samples])
    stands_for = torch.cat([torch.full((sample.rows.numel(),), sample.factor) for sample in samples]).double()
    total = float(stands_for.sum())
    zeros = float(stands_for[magnitudes == 0].sum()) / total
    # By chance a sample may show a little more or less than there is.
    if zeros > step.sparsity + 0.01:
        raise IncompatibleSpec(f"about {zeros:.0%} of its weights are zero already; ask for a higher `sparsity`")
    order = magnitudes.argsort(stable=True)
    # By place, not by threshold: of equal magnitudes some may go and others stay.
    kept = torch.ones_like(magnitudes)
    kept[order[stands_for[order].cumsum(0) <= step.sparsity * total]] = 0
    parts = torch.split(kept, [sample.rows.numel() for sample in samples])
    return outlook.with_tensors(
        {
            name: replace(sample, rows=sample.rows * part.view_as(sample.rows))
            for name, sample, part in zip(names, samples, parts, strict=True)
        }
    )


def quantize(outlook: Outlook, step: Quantize, network: Network) -> Outlook:
    """With the rows that were sampled on the grids that the step would find for them alone."""
    chosen = select_layers(outlook.layers, step.layers)
    bits = quantize_bits(step, list(outlook.layers), chosen)
    changed = {}
    for name in chosen:
        sample = outlook.tensors[f"{name}.weight"]
        grid = grid_for(sample.rows, step, bits[name])
        changed[f"{name}.weight"] = replace(sample, rows=grid.nearest(sample.rows), grid=grid)
    return outlook.with_tensors(changed, unquantized(network.module, weighted_layers(network.module), step))


def factorize(outlook: Outlook, step: Factorize, network: Network, layers: tuple[LayerInspection, ...]) -> Outlook:
    """With pairs in place of layers, of ranks that follow from their shapes.

    The values of a pair are taken to be normally distributed, as entries of singular vectors of large matrices are.
    """
    inspected = {layer.name: layer for layer in layers}
    able = {layer.name: layer.type for layer in layers if unfactorized_reason(layer, step) is None}
    left = [SkippedLayer(name=name, reason=why) for name, why in unfactorized_layers(step, layers).items()]
    tensors, names, description = dict(outlook.tensors), dict[str, str](), outlook.description
    modules = weighted_layers(network.module)
    chosen = factorize_ranks(step, able)
    for name, layer_type in outlook.layers.items():
        if name not in chosen:
            names[name] = layer_type
            continue
        layer = modules[name]
        split = SCHEMES[scheme_of(inspected[name].weight_shape, step.scheme)](layer, 0)
        ranks = split.ranks(step.rank, name)
        if reason := whole_reason(split, layer, ranks, batch_norm=step.batch_norm):
            left.append(SkippedLayer(name=name, reason=reason))
            names[name] = layer_type
            continue
        edit = split.edit(name, ranks, batch_norm=step.batch_norm)
        if not isinstance(edit, FactorizedLayer):
            raise TypeError(f"a layer that becomes a {edit.kind} is not estimated")
        description = description.edited(edit)
        whole = tensors.pop(f"{name}.weight")
        for half, sample in zip(("0", "1"), _halves(whole, inspected[name], step, edit.rank), strict=True):
            tensors[f"{name}.{half}.weight"] = sample
            names[f"{name}.{half}"] = layer_type
    left_alone = (*outlook.left_alone, *left)
    return replace(outlook, description=description, tensors=tensors, layers=names, left_alone=left_alone)


def _halves(whole: Sample, layer: LayerInspection, step: Factorize, rank: int) -> tuple[Sample, Sample]:
    """Both halves of a pair of this rank, which share the norm of the layer evenly."""
    scheme = scheme_of(layer.weight_shape, step.scheme)
    inputs, outputs = matrix_shape(layer.weight_shape, layer.groups, scheme)
    between, channels = layer.groups * rank, layer.weight_shape[0]
    scale = math.sqrt(float(whole.rows.std(correction=0)) / math.sqrt(rank))
    generator = torch.Generator().manual_seed(0)

    def half(rows: int, columns: int) -> Sample:
        drawn = torch.randn(rows_of(rows, columns), columns, generator=generator)
        return Sample(drawn * scale, rows * columns, rows)

    return half(between, inputs), half(channels, between * outputs // channels)
