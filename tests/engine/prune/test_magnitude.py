from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.prune.magnitude import magnitudes, size, zeros
from modelpress.engine.prune.scores import keep_highest


def test_the_docstring_by_hand():
    kept = keep_highest(magnitudes({"w": torch.tensor([3.0, -1.0, 1.0, 2.0])}), 1, {})
    assert kept["w"].tolist() == [True, False, True, True]


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.integers(-4, 4), min_size=1, max_size=12),
    second=st.lists(st.integers(-4, 4), min_size=2, max_size=12),
    share=st.floats(0, 1),
)
def test_against_a_stable_sort_with_many_ties(first: list[int], second: list[int], share: float):
    weights = {
        "a": torch.tensor(first, dtype=torch.float32),
        "b": torch.tensor(second, dtype=torch.float32)[: len(second) // 2 * 2].reshape(2, -1),
    }
    removed = int(share * size(weights))
    kept = keep_highest(magnitudes(weights), removed, {})
    flat = np.concatenate([weight.numpy().ravel() for weight in weights.values()])
    expected = np.ones(len(flat), dtype=bool)
    expected[np.argsort(np.abs(flat), kind="stable")[:removed]] = False
    np.testing.assert_array_equal(torch.cat([mask.ravel() for mask in kept.values()]).numpy(), expected)
    assert all(kept[name].shape == weights[name].shape for name in weights)


def test_what_was_removed_stays_removed():
    """A masked weight that momentum made large goes before a small one that is kept."""
    weights = {"w": torch.tensor([9.0, 1.0, 2.0, 3.0])}
    kept = keep_highest(magnitudes(weights), 2, {"w": torch.tensor([False, True, True, True])})
    assert kept["w"].tolist() == [False, False, True, True]


def test_kernels_laid_out_channels_last():
    weight = torch.randn(4, 3, 3, 3)
    one = keep_highest(magnitudes({"w": weight}), 50, {})["w"]
    other = keep_highest(magnitudes({"w": weight.contiguous(memory_format=torch.channels_last)}), 50, {})["w"]
    assert torch.equal(one, other)


def test_counts():
    weights = {"a": torch.tensor([0.0, -0.0, 1.0]), "b": torch.tensor([[0.0, 2.0]])}
    assert (zeros(weights), size(weights)) == (3, 5)
