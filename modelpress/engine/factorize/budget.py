"""Ranks for several layers at once, from what they may cost together: weights, multiply-accumulates or bytes.

Each layer is thin at rank 1 and whole at the end, and each rank between costs as much as the one before. What a step
gains is the share of the layer's squared singular values that it adds. Steps are taken by gain by cost, greedily; a
layer's last step, from its largest cheaper rank to the whole layer, may be worth more than those before it, so that
those are taken with it (the upper hull of its gains).

Two layers of 4 x 4 weights with squared singular values (8, 4, 2, 2) and (5, 1, 1, 1): of 32 weights 24 are shared.
Rank 1 costs each 8. To be whole costs 8 more and gains 8/16 and 3/8: the first is whole, the second has rank 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from modelpress.spec.check.split import RankCost


@dataclass(frozen=True)
class State:
    """A layer at one rank."""

    rank: int | None  # None for the whole layer.
    cost: int
    kept: float  # Share of its squared singular values, 0..1.


def budget_ranks(spectra: Mapping[str, Tensor], costs: Mapping[str, RankCost], limit: int) -> dict[str, int | None]:
    """Ranks by layer, None for a layer that stays whole, that cost at most `limit` together.

    `spectra` are the singular values of each layer, largest first. The limit must hold every layer at rank 1 (or
    whole, where no pair is cheaper). No single rank that gains anything fits into what is left of it.
    """
    states = {name: layer_states(spectra[name], costs[name]) for name in spectra}
    at = dict.fromkeys(states, 0)
    left = limit - sum(states[name][0].cost for name in states)
    steps = sorted(
        ((_worth(states[name][start], states[name][end]), name, start, end)
         for name in states
         for start, end in hull_steps(states[name])),
        key=lambda step: -step[0],
    )  # fmt: skip
    for worth, name, start, end in steps:
        cost = states[name][end].cost - states[name][start].cost
        # A layer whose last step did not fit takes no later one: those start where it would have ended.
        if worth > 0 and at[name] == start and cost <= left:
            at[name], left = end, left - cost
    # What is left may hold single ranks of a step that did not fit as a whole.
    while fitting := [
        name
        for name, place in at.items()
        if place + 1 < len(states[name])
        and states[name][place + 1].cost - states[name][place].cost <= left
        and _worth(states[name][place], states[name][place + 1]) > 0
    ]:
        best = max(fitting, key=lambda name: _worth(states[name][at[name]], states[name][at[name] + 1]))
        left -= states[best][at[best] + 1].cost - states[best][at[best]].cost
        at[best] += 1
    return {name: states[name][place].rank for name, place in at.items()}


def layer_states(singular_values: Tensor, cost: RankCost) -> list[State]:
    """A layer at every rank whose pair is smaller and cheaper than it, then whole."""
    squares = singular_values.double().square()
    total = float(squares.sum())
    kept = (squares.cumsum(0) / total).tolist() if total > 0 else [1.0] * len(squares)
    thin = [State(rank, cost.at(rank), kept[rank - 1]) for rank in range(1, cost.most + 1)]
    return [*thin, State(None, cost.whole, 1.0)]


def hull_steps(states: list[State]) -> list[tuple[int, int]]:
    """Steps from state to state, each worth no more than the one before it; states below the hull are passed over."""
    corners = [0]
    for place in range(1, len(states)):
        while len(corners) > 1 and _worth(states[corners[-1]], states[place]) > _worth(
            states[corners[-2]], states[corners[-1]]
        ):
            corners.pop()
        corners.append(place)
    return list(pairwise(corners))


def _worth(start: State, end: State) -> float:
    """What a step gains by what it costs."""
    return (end.kept - start.kept) / (end.cost - start.cost)
