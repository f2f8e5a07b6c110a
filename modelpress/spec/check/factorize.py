"""Does a step `factorize` fit a model?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from modelpress.spec.check.layers import picked_layers, select_layers
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.check.split import RankCost, full_rank, rank_cost, scheme_of, unsplit_reason
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import Currency, Factorize, RankBudget, RankNumber, RankPerLayer

CURRENCIES: dict[Currency, str] = {"parameters": "weights", "macs": "multiply-accumulates", "bytes": "bytes"}


def factorize_misfits(step: Factorize, layers: Sequence[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    able = {layer.name: layer for layer in layers if unfactorized_reason(layer, step) is None}
    try:
        wanted = factorize_ranks(step, {name: layer.type for name, layer in able.items()})
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    chosen = [able[name] for name in wanted]
    if reason := _unwhitened_reason(step, chosen):
        return [Misfit(where=f"{where}.whiten", message=reason)]
    if step.batch_norm and not any(layer.weight_shape[2:] for layer in chosen):
        message = "linear layers have no norm between, and no convolution is chosen; drop `batch_norm`"
        return [Misfit(where=f"{where}.batch_norm", message=message)]
    if isinstance(step.rank, RankBudget):
        try:
            budget_limit(step.rank, budget_costs(step, step.rank, chosen))
        except ValueError as error:
            return [Misfit(where=f"{where}.rank", message=str(error))]
    most = {layer.name: full_rank(layer.weight_shape, layer.groups, step.scheme) for layer in chosen}
    return [
        Misfit(
            where=f"{where}.rank",
            message=f"rank {rank} is above the full rank {most[name]} of layer {name!r}; "
            "lower it, exclude the layer, or use a `ratio`",
        )
        for name, rank in wanted.items()
        if rank is not None and rank > most[name]
    ]


def unfactorized_reason(layer: LayerInspection, step: Factorize) -> str | None:
    """Why the step cannot treat a layer, in words; None when it can."""
    if layer.full_rank is None:
        return layer.untreated or "it cannot be factorized"
    return unsplit_reason(layer.weight_shape, layer.groups, step.scheme)


def unfactorized_layers(step: Factorize, layers: Sequence[LayerInspection]) -> dict[str, str]:
    """Layers that the step picks and cannot treat, each with the reason."""
    by_name = {layer.name: layer for layer in layers}
    names = picked_layers({layer.name: layer.type for layer in layers}, step.layers)
    picked = {name: unfactorized_reason(by_name[name], step) for name in names}
    return {name: reason for name, reason in picked.items() if reason is not None}


def factorize_ranks(step: Factorize, layers: Mapping[str, str]) -> dict[str, int | None]:
    """Layers that a step treats, with the rank that the spec gives each (None where it follows from the weights).

    `layers` are those that can be factorized, names to types. Raises ValueError when a name, a pattern or a type
    matches none of them.
    """
    chosen = select_layers(layers, step.layers)
    if isinstance(step.rank, RankPerLayer):
        unknown = [name for name in step.rank.values if name not in layers]
        if unknown:
            raise ValueError(f"no layer {listed(unknown)} that can be factorized; these can: {listed(list(layers))}")
        kept = set(chosen)
        excluded = [name for name in step.rank.values if name not in kept]
        if excluded:
            raise ValueError(
                f"`rank.values` names {listed(excluded)}, which `layers` leaves out; add it there, or drop its rank"
            )
        return {name: step.rank.values[name] for name in chosen if name in step.rank.values}
    rank = step.rank.value if isinstance(step.rank, RankNumber) else None
    return dict.fromkeys(chosen, rank)


def budget_costs(
    step: Factorize, rank: RankBudget, layers: Iterable[LayerInspection], stored: Mapping[str, int] | None = None
) -> dict[str, RankCost]:
    """What the ranks of these layers cost in the budget's currency; no layers where that of one is not known.

    `stored` are the bytes of weights in the compact file by layer, where they take less than 4 each.
    """
    found = {
        layer.name: rank_cost(
            layer,
            step.scheme,
            rank.currency,
            batch_norm=step.batch_norm,
            stored_bytes=None if stored is None else stored.get(layer.name),
        )
        for layer in layers
    }
    known = {name: cost for name, cost in found.items() if cost is not None}
    return known if len(known) == len(found) else {}


def budget_limit(rank: RankBudget, costs: Mapping[str, RankCost]) -> int:
    """What a budget allows layers of these costs together.

    Raises ValueError when that is less than all of them cost at rank 1.
    """
    whole = sum(cost.whole for cost in costs.values())
    least = sum(cost.least for cost in costs.values())
    limit = math.floor(rank.share * whole + 1e-6)  # As for ratios: 0.29 * 100 shall be 29.
    if limit < least:
        share = math.ceil(1000 * least / whole) / 1000
        raise ValueError(
            f"a budget of {rank.share:g} is below the least that pairs can have: at rank 1 the chosen layers keep "
            f"{least} of {whole} {CURRENCIES[rank.currency]}; "
            + (f"give at least {share:g}, or exclude layers" if share < 1 else "no pair is cheaper than its layer")
        )
    return limit


def factorize_data_misfits(step: Factorize, where: str) -> list[Misfit]:
    """What keeps a step that does not train from being done without a data set."""
    if not step.whiten:
        return []
    message = "`whiten` looks at training images, which needs a data set; give `dataset`, or drop it"
    return [Misfit(where=f"{where}.whiten", message=message)]


def _unwhitened_reason(step: Factorize, layers: Sequence[LayerInspection]) -> str | None:
    if not step.whiten:
        return None
    halved = [layer.name for layer in layers if scheme_of(layer.weight_shape, step.scheme) == "vertical_horizontal"]
    if not halved:
        return None
    return (
        f"k x k convolutions are whitened by the scheme `channel_svd` only, as the halves of `{step.scheme}` share no "
        f"single input; set `scheme`, or exclude {listed(halved)}"
    )
