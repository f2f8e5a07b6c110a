from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.prune.erk import erk_kept


def full(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}


def test_the_docstring_by_hand():
    shapes = {"a": (4, 4), "b": (10, 10)}
    assert erk_kept(shapes, 14, full(shapes)) == {"a": 4, "b": 10}


def test_kernels_by_hand():
    """Densities 22/576 and 20/100 times the same factor: of 576 + 100 weights 42 = 22 + 20 stay at factor 1."""
    shapes = {"conv": (8, 8, 3, 3), "linear": (10, 10)}
    assert erk_kept(shapes, 42, full(shapes)) == {"conv": 22, "linear": 20}
    assert erk_kept(shapes, 21, full(shapes)) == {"conv": 11, "linear": 10}


def test_a_small_layer_stays_dense_and_the_rest_is_shared_by_hand():
    """Shares of 60 by 4 : 20 : 36 are 4, 20, 36; a has 3 weights only, so 57 go by 20 : 36 = 20.36 and 36.64."""
    shapes = {"a": (3, 1), "b": (10, 10), "c": (18, 18)}
    assert erk_kept(shapes, 60, full(shapes)) == {"a": 3, "b": 20, "c": 37}


def test_a_layer_keeps_no_more_than_it_has():
    shapes = {"a": (10, 10), "b": (10, 10)}
    assert erk_kept(shapes, 50, {"a": 10, "b": 100}) == {"a": 10, "b": 40}


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6),
    density=st.floats(0, 1),
)
def test_the_total_is_exact_and_densities_fall_as_the_formula_says(shapes: list[tuple[int, ...]], density: float):
    named = {str(number): shape for number, shape in enumerate(shapes)}
    most = full(named)
    kept = round(density * sum(most.values()))
    counts = erk_kept(named, kept, most)
    assert sum(counts.values()) == kept
    assert all(0 <= counts[name] <= most[name] for name in named)
    # By bisection, apart from our own rounds: the factor at which the capped shares add up to what is kept.
    low, high = 0.0, float(max(most.values()))
    for _ in range(200):
        middle = (low + high) / 2
        if sum(min(most[name], middle * sum(named[name])) for name in named) < kept:
            low = middle
        else:
            high = middle
    assert all(abs(counts[name] - min(most[name], high * sum(named[name]))) < 1 + 1e-6 for name in named)
