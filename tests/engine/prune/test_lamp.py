from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.prune.lamp import lamp_scores


def test_the_docstring_by_hand():
    scores = lamp_scores(torch.tensor([1.0, -2.0, 3.0]).abs())
    assert scores.tolist() == pytest.approx([1 / 14, 4 / 13, 1.0])


def test_order_shape_and_ties_by_hand():
    """Ascending: 0, 1, 1, 2; the first 1 has the second behind it, the zero nothing to score."""
    scores = lamp_scores(torch.tensor([[2.0, 1.0], [0.0, 1.0]]))
    assert scores.shape == (2, 2)
    assert scores.flatten().tolist() == pytest.approx([1.0, 1 / 6, 0.0, 1 / 5])


def test_a_layer_of_zeros():
    assert lamp_scores(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20, unique=True))
def test_against_the_sum_as_the_paper_writes_it(weights: list[int]):
    squares = np.array(weights, dtype=float) ** 2
    expected = [square / squares[squares >= square].sum() for square in squares]
    np.testing.assert_allclose(lamp_scores(torch.tensor(weights, dtype=torch.float32)).numpy(), expected, rtol=1e-12)
