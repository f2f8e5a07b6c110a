"""Bits of tensors against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from modelpress.engine.estimate.sample import Sample, sample_tensors
from modelpress.engine.estimate.stored import stored_bits
from modelpress.engine.quantize.grid import Grid


def entropy(*shares: float) -> float:
    return -sum(share * math.log2(share) for share in shares)


def test_powers_of_two_have_an_exponent_and_no_mantissa() -> None:
    # Each of four exponents as often, 2 bits; two bytes of mantissa always zero, and signs as often as not, 1 bit.
    exponents = torch.tensor([0.25, 0.5, 1.0, 2.0]).repeat(4096)
    signs = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]).repeat(2048)
    values = exponents * signs
    sample = Sample(values[None], 10 * values.numel(), 10)
    assert stored_bits([sample]) == pytest.approx(10 * values.numel() * 3, rel=1e-3)


def test_normal_values_have_noise_for_mantissas() -> None:
    values = torch.randn(1, 2**17, generator=torch.Generator().manual_seed(0))
    # P(2^k <= |w| < 2^(k + 1)) of a standard normal number, by the error function.
    edges = [math.erf(2.0**k / math.sqrt(2)) for k in range(-30, 5)]
    exponent = entropy(*(high - low for low, high in pairwise(edges) if high > low))
    # Signs and 23 bits of mantissa, of which the first few are not quite even.
    assert stored_bits([Sample(values, values.numel(), 1)]) == pytest.approx(values.numel() * (exponent + 24), rel=2e-3)


def test_zeros_cost_the_entropy_of_their_places() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(64, 1024, generator=generator)
    sparse = torch.where(torch.rand(dense.shape, generator=generator) < 0.1, dense, 0.0)
    kept = int(sparse.count_nonzero())
    positions = dense.numel() * entropy(kept / dense.numel(), 1 - kept / dense.numel())
    alone = stored_bits([Sample(sparse[sparse != 0][None], kept, 1)])
    found = stored_bits([Sample(sparse, dense.numel(), 64)])
    assert found - alone == pytest.approx(positions, rel=1e-3)


def test_rows_that_are_zero_cost_next_to_nothing() -> None:
    rows = torch.ones(64, 1024)
    rows[::2] = 0
    # A class for each row, and no bit for what is in it: the 32,768 ones are one symbol, too.
    assert stored_bits([Sample(rows, rows.numel(), 64)]) < 64 * 4


def test_levels_that_come_as_often_cost_their_logarithm() -> None:
    levels = torch.cat([torch.arange(-8.0, 0), torch.zeros(1), torch.arange(1.0, 9)])
    rows = torch.arange(1.0, 9).repeat(4096).view(1, -1)
    grid = Grid(levels, torch.ones(1))
    pool = 17 * 32  # at the most: the grid's own values
    bits = stored_bits([Sample(rows, 3 * rows.numel(), 3, grid)])
    assert bits == pytest.approx(3 * rows.numel() * 3, abs=8 * 6 + pool)


def test_a_sample_stands_for_the_whole() -> None:
    whole = torch.randn(1000, 64, 3, 3, generator=torch.Generator().manual_seed(1))
    (sample,) = sample_tensors({"weight": whole}).values()
    assert (sample.size, sample.channels) == (whole.numel(), 1000)
    assert sample.rows.shape[1] == 64 * 9
    assert sample.rows.numel() * sample.factor == pytest.approx(whole.numel())
    everything = Sample(whole.reshape(1000, -1), whole.numel(), 1000)
    assert sample.rows.numel() < whole.numel() / 10
    assert stored_bits([sample]) == pytest.approx(stored_bits([everything]), rel=0.005)


def test_small_tensors_are_looked_at_whole_and_others_types_not() -> None:
    samples = sample_tensors(
        {"bias": torch.arange(5.0), "count": torch.tensor(3), "empty": torch.zeros(0, 4), "scale": torch.tensor(2.0)}
    )
    assert list(samples) == ["bias", "scale"]
    assert np.array_equal(samples["bias"].rows.numpy(), np.arange(5, dtype=np.float32)[None])
