"""The step `factorize`: layers become thinner ones in a row, where that makes them smaller."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from modelpress.engine.factorize.budget import budget_ranks
from modelpress.engine.factorize.calibration import calibration_batches, input_moments
from modelpress.engine.factorize.chain import fill
from modelpress.engine.factorize.fold import foldable_norms
from modelpress.engine.factorize.norm_statistics import Norm, set_statistics
from modelpress.engine.factorize.pair import PairSplit
from modelpress.engine.factorize.schemes import SCHEMES
from modelpress.engine.factorize.split import Ranks, Split, SplitEdit, whole_reason
from modelpress.engine.factorize.stored import stored_bytes
from modelpress.engine.inspect_layers import inspect_layers
from modelpress.engine.layer_change import layer_change
from modelpress.engine.measure import evaluating
from modelpress.engine.network import EDITS, Network, weighted_layers
from modelpress.engine.quantize.vectors import ON_CODEBOOK, fold_norm
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import factorize_ranks
from modelpress.spec.check.factorize import (
    CURRENCIES,
    budget_costs,
    budget_limit,
    factorize_misfits,
    unfactorized_layers,
    unfactorized_reason,
)
from modelpress.spec.check.split import scheme_of
from modelpress.spec.config import Config
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.report import LayerChange, SkippedLayer
from modelpress.spec.steps import Factorize, RankBudget


class _Factorized(Config):
    """What became of each layer."""

    changes: tuple[LayerChange, ...] = Field(description="Of those that became thinner ones.")
    skipped: tuple[SkippedLayer, ...] = Field(description="Those that stay.")


def factorize(network: Network, step: Factorize, context: StepContext) -> StepResult:
    """Replace the chosen layers by thinner ones of the rank asked for; a layer that would not be smaller stays.

    Raises IncompatibleSpec when no layer matches, when a rank is above a layer's full rank, when a budget is below
    what rank 1 leaves, or when it trains without data; and Diverged.
    """
    if step.training is not None or step.whiten:
        training_data(context)
    # Decompositions of large layers take minutes.
    result, found = context.checkpoints.interrupted(_Factorized) or _factorize(network, step, context)
    summary = None
    if step.training is not None:
        context.checkpoints.begin_training(result, found)
        summary = recover(result, step.training, context)
    return StepResult(result, layers=found.changes, skipped=found.skipped, training=summary)


def _factorize(network: Network, step: Factorize, context: StepContext) -> tuple[Network, _Factorized]:
    result = Network(copy.deepcopy(network.module), network.description, dict(network.masks), dict(network.grids))
    inspected = inspect_layers(result.module, network.description.input_shape)
    names = _chosen(step, inspected)
    skipped = [SkippedLayer(name=name, reason=why) for name, why in unfactorized_layers(step, inspected).items()]
    if step.fold_batch_norm:
        skipped += _fold_norms(result, names)
        inspected = inspect_layers(result.module, network.description.input_shape)  # Some have a bias now.
    layers = {name: layer for name, layer in weighted_layers(result.module).items() if name in names}
    splits = {name: _split(layer, step, context.seed) for name, layer in layers.items()}
    if step.whiten:
        _whiten(splits, network, step, context)
    shared, reasons = _share_budget(step, splits, result, [layer for layer in inspected if layer.name in names])

    changes: list[LayerChange] = []
    for name in names:
        layer, split = layers[name], splits.pop(name)  # Decompositions are large: each goes with its layer.
        if name not in reasons:
            ranks = shared[name] if name in shared else split.ranks(step.rank, name)
            if reason := whole_reason(split, layer, ranks, batch_norm=step.batch_norm):
                reasons[name] = reason
        if name in reasons:
            skipped.append(SkippedLayer(name=name, reason=reasons[name]))
            continue
        _replace(result, split.edit(name, ranks, batch_norm=step.batch_norm), split.weights(ranks))
        changes.append(layer_change(name, layer, result.module.get_submodule(name), max(ranks)))

    if step.batch_norm and context.data is not None:
        norms = _norms_between(result.module, [change.name for change in changes])
        set_statistics(result.module, norms, calibration_batches(network, context, step.calibration_images))
    return result, _Factorized(changes=tuple(changes), skipped=tuple(skipped))


def _chosen(step: Factorize, layers: Sequence[LayerInspection]) -> list[str]:
    """Names of the layers to treat. Raises IncompatibleSpec for what keeps the step from the network."""
    if misfits := factorize_misfits(step, layers, ""):
        raise IncompatibleSpec("; ".join(misfit.message for misfit in misfits))
    able = {layer.name: layer.type for layer in layers if unfactorized_reason(layer, step) is None}
    return list(factorize_ranks(step, able))


def _split(layer: nn.Module, step: Factorize, seed: int) -> Split:
    return SCHEMES[scheme_of(layer.get_parameter("weight").shape, step.scheme)](layer, seed)


def _fold_norms(result: Network, names: list[str]) -> list[SkippedLayer]:
    """Fold the norms behind these convolutions in place; gives those norms that are left, and why."""
    pairs, left = foldable_norms(result.module)
    for norm, convolution in pairs.items():
        if convolution in names and not fold_norm(result, norm, convolution):
            left[norm] = ON_CODEBOOK
    return [SkippedLayer(name=name, reason=reason) for name, reason in left.items()]


def _whiten(splits: dict[str, Split], network: Network, step: Factorize, context: StepContext) -> None:
    """Take the layers apart for the inputs that training images give them.

    The inputs are those of the network that went in, as folding does not change them.
    """
    batches = calibration_batches(network, context, step.calibration_images)
    given = weighted_layers(network.module)
    with evaluating(network.module):
        for name, moments in input_moments(network.module, {name: given[name] for name in splits}, batches):
            _pair(splits[name]).whiten(moments)


def _share_budget(
    step: Factorize, splits: dict[str, Split], result: Network, layers: Sequence[LayerInspection]
) -> tuple[dict[str, Ranks], dict[str, str]]:
    """Ranks that share the budget, and why other layers stay whole; neither when the step has no budget."""
    if not isinstance(step.rank, RankBudget):
        return {}, {}
    stored = {}
    if step.rank.currency == "bytes":
        weights = {name: result.module.get_parameter(f"{name}.weight") for name in splits}
        stored = {name: stored_bytes(weight, result.grids.get(f"{name}.weight")) for name, weight in weights.items()}
    costs = budget_costs(step, step.rank, layers, stored)
    try:
        limit = budget_limit(step.rank, costs)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    found = budget_ranks({name: _pair(split).spectrum for name, split in splits.items()}, costs, limit)
    fewer = " and fewer ".join(dict.fromkeys(("weights", CURRENCIES[step.rank.currency])))
    none = f"no pair has fewer {fewer} than the layer"
    whole = {
        name: "the budget keeps it whole" if costs[name].most > 0 else none
        for name, rank in found.items()
        if rank is None
    }
    return {name: (rank,) for name, rank in found.items() if rank is not None}, whole


def _pair(split: Split) -> PairSplit:
    if not isinstance(split, PairSplit):  # The spec refuses to whiten others, and to give them a budget.
        raise TypeError(f"a {type(split).__name__} has no singular values")
    return split


def _replace(result: Network, edit: SplitEdit, weights: Sequence[Tensor]) -> None:
    """Put thinner layers in a layer's place; what was to be held of its weight goes with it."""
    layer = result.module.get_submodule(edit.layer)
    EDITS[edit.kind](result.module, edit)
    fill(result.module.get_submodule(edit.layer), layer, weights)
    result.description = result.description.edited(edit)
    result.masks.pop(f"{edit.layer}.weight", None)
    result.grids.pop(f"{edit.layer}.weight", None)


def _norms_between(module: nn.Module, names: Sequence[str]) -> dict[str, Norm]:
    return {
        f"{name}.{child}": norm
        for name in names
        for child, norm in module.get_submodule(name).named_children()
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    }
