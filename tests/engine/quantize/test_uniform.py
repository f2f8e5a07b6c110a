"""Uniform steps against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.quantize.uniform import rounded, uniform_grid, uniform_levels


def error(rows: np.ndarray, scale: float, most: int) -> float:
    """Squared error of rounding to whole multiples of `scale`, -most to most of them."""
    return float(((rows - np.clip(np.round(rows / scale), -most, most) * scale) ** 2).sum())


def test_levels_are_symmetric():
    assert uniform_levels(2).tolist() == [-1, 0, 1]
    assert uniform_levels(3).tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert len(uniform_levels(8)) == 255


def test_the_largest_magnitude_is_the_last_step():
    weight = torch.tensor([[0.2, -1.4, 0.7], [0.0, 0.0, 0.35]])
    grid = uniform_grid(weight, 4, "max")
    torch.testing.assert_close(grid.scales, torch.tensor([0.2, 0.05]))
    torch.testing.assert_close(
        grid.nearest(weight), torch.tensor([[0.2, -1.4, 0.6], [0.0, 0.0, 0.35]]), atol=0.11, rtol=0
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_search_comes_near_the_best_scale_of_all(bits: int):
    rows = np.random.default_rng(bits).standard_t(3, size=(4, 400)).astype(np.float32)
    most = 2 ** (bits - 1) - 1
    scales = uniform_grid(torch.from_numpy(rows), bits, "mse").scales.numpy()
    largest = uniform_grid(torch.from_numpy(rows), bits, "max").scales.numpy()
    for row, scale, end in zip(rows, scales, largest, strict=True):
        best = min(error(row, end * factor, most) for factor in np.linspace(0.02, 1.0, 800))
        assert error(row, scale, most) <= 1.03 * best
        assert error(row, scale, most) <= error(row, end, most) * (1 + 1e-5)


def test_a_channel_of_zeros_keeps_its_zeros():
    grid = uniform_grid(torch.tensor([[0.0, 0.0], [3.0, -3.0]]), 2, "mse")
    assert grid.nearest(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert bool((grid.scales > 0).all())


@settings(max_examples=25, deadline=None)
@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4), bits=st.integers(2, 8), seed=st.integers(0, 100))
def test_rounding_gives_the_bits_of_the_search(shape: list[int], bits: int, seed: int):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    grid = uniform_grid(weight, bits, "mse")
    found, expected = rounded(weight, grid), grid.nearest(weight)
    # The same bytes, the sign of zero included; random numbers lie half-way between two levels next to never.
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
