from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.factorize.budget import State, budget_ranks, hull_steps, layer_states
from modelpress.spec.check.split import RankCost


def weights(inputs: int, outputs: int) -> RankCost:
    """The cost of a pair in weights."""
    by_rank = inputs + outputs
    return RankCost(by_rank, inputs * outputs, (inputs * outputs - 1) // by_rank)


def test_two_layers_by_hand():
    spectra = {
        # 100 weights, 20 by rank, 4 ranks: gains of 1/4, 1/8, 1/16, and 1/16 for the last 20 weights.
        "a": torch.tensor([8.0, 4, 2, 1, 1, 0, 0, 0, 0, 0]).sqrt(),
        # 400 weights, 40 by rank, 9 ranks: gains of 1/10 each.
        "b": torch.tensor([1.0] * 10 + [0.0] * 10),
    }
    costs = {"a": weights(10, 10), "b": weights(20, 20)}
    assert budget_ranks(spectra, costs, 60) == {"a": 1, "b": 1}
    assert budget_ranks(spectra, costs, 79) == {"a": 1, "b": 1}
    assert budget_ranks(spectra, costs, 125) == {"a": 4, "b": 1}
    assert budget_ranks(spectra, costs, 150) == {"a": None, "b": 1}
    assert budget_ranks(spectra, costs, 200) == {"a": None, "b": 2}
    assert budget_ranks(spectra, costs, 500) == {"a": None, "b": None}


def test_the_example_of_the_module():
    spectra = {"a": torch.tensor([8.0, 4, 2, 2]).sqrt(), "b": torch.tensor([5.0, 1, 1, 1]).sqrt()}
    assert budget_ranks(spectra, {"a": weights(4, 4), "b": weights(4, 4)}, 24) == {"a": None, "b": 1}


def test_a_last_step_that_is_worth_more_takes_those_before_it():
    states = [State(1, 10, 0.4), State(2, 20, 0.5), State(3, 30, 0.6), State(None, 31, 1.0)]
    assert hull_steps(states) == [(0, 3)]
    assert hull_steps([State(1, 10, 0.4), State(2, 20, 0.7), State(None, 30, 1.0)])[0][0] == 0


def test_what_gains_nothing_is_not_bought():
    ranks = budget_ranks({"a": torch.tensor([2.0, 1.0] + [0.0] * 8), "b": torch.zeros(10)},
                         {"a": weights(10, 10), "b": weights(10, 10)}, 200)  # fmt: skip
    assert ranks == {"a": 2, "b": 1}


def test_a_layer_without_a_smaller_pair_is_whole():
    assert budget_ranks({"a": torch.ones(1)}, {"a": weights(1, 9)}, 9) == {"a": None}


@st.composite
def rank_costs(draw: st.DrawFn, shape: tuple[int, int]) -> RankCost:
    """Costs of a pair in any currency: each rank may cost more or less than its weights."""
    smaller = weights(*shape).most
    by_rank, fixed = draw(st.integers(1, 40)), draw(st.integers(0, 30))
    whole = fixed + draw(st.integers(1, 200))
    return RankCost(by_rank, whole, min(smaller, (whole - fixed - 1) // by_rank), fixed)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=2, max_size=3),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_against_trying_everything(shapes: list[tuple[int, int]], share: float, seed: int, data: st.DataObject):
    torch.manual_seed(seed)
    sizes = {str(place): shape for place, shape in enumerate(shapes)}
    costs = {
        name: weights(*shape) if data.draw(st.booleans()) else data.draw(rank_costs(shape))
        for name, shape in sizes.items()
    }
    spectra = {name: torch.linalg.svdvals(torch.randn(shape)) for name, shape in sizes.items()}
    states = {name: layer_states(spectra[name], costs[name]) for name in sizes}
    for name, found in states.items():
        assert [state.cost for state in found] == sorted({costs[name].at(state.rank) for state in found})
    least = sum(cost.least for cost in costs.values())
    total = sum(cost.whole for cost in costs.values())
    budget = least + int(share * (total - least))

    def lost(limit: int) -> float:
        fitting = [
            sum(1 - state.kept for state in choice)
            for choice in product(*states.values())
            if sum(state.cost for state in choice) <= limit
        ]
        return min(fitting)

    ranks = budget_ranks(spectra, costs, budget)
    chosen = {name: next(state for state in states[name] if state.rank == rank) for name, rank in ranks.items()}
    spent = sum(state.cost for state in chosen.values())
    loss = sum(1 - state.kept for state in chosen.values())
    assert spent <= budget
    for name, state in chosen.items():
        later = states[name][states[name].index(state) + 1 :]
        assert not later or spent + later[0].cost - state.cost > budget
    # Greedy is the best there is for what it had spent when the first step did not fit.
    steps = [found[end].cost - found[start].cost for found in states.values() for start, end in hull_steps(found)]
    assert lost(budget) <= loss + 1e-9
    assert loss <= lost(max(least, budget - max(steps, default=0))) + 1e-9
    if spent == total:
        assert loss == pytest.approx(0)
