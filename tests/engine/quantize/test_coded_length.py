"""The estimate of coded bits: closed forms, the slopes, and the container's own bytes."""

from __future__ import annotations

import pytest
import torch

from modelpress.engine.formats import tensor_stream
from modelpress.engine.quantize.coded_length import MOST_CONTEXTS, code_lengths, coded_length, find_contexts
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.uniform import uniform_levels


def one_context(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def test_lengths_are_the_logarithms_of_shares():
    # 1/8, 3/4, 1/8 of 8,000: 3, log2(4/3) = 0.41504 and 3 bits, half a weight more or less.
    indices = torch.tensor([0] * 1000 + [1] * 6000 + [2] * 1000)
    lengths = code_lengths(indices, one_context(8000), 3)
    assert lengths.shape == (MOST_CONTEXTS, 3)
    torch.testing.assert_close(lengths[0], torch.tensor([3.0, 0.41504, 3.0]), rtol=0, atol=1e-3)


def test_bits_of_a_known_distribution():
    units = torch.tensor([[-1.2] * 1000 + [0.3] * 6000 + [1.4] * 1000])
    found = coded_length(units, one_context(1, 8000), 3)
    # A quarter of them 3 bits each, the others 0.41504: 1.06128 on the average.
    assert found.bits.item() == pytest.approx(8000 * 1.06128, rel=1e-3)
    # Towards zero from both sides, by 3 - 0.41504 bits a step; beyond the last level as before it.
    torch.testing.assert_close(found.slopes[0, 0].item(), -2.585, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.slopes[0, 1000].item(), 2.585, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.slopes[0, -1].item(), 2.585, rtol=1e-3, atol=0)


def test_weights_are_pulled_to_frequent_levels_whichever_these_are():
    # The level 2 of -3 ... 3 is the commonest one.
    units = torch.full((1, 1000), 2.0)
    units[0, :6] = torch.tensor([1.5, 2.4, -0.5, 0.4, -2.6, 3.0])
    slopes = coded_length(units, one_context(1, 1000), 7).slopes[0]
    assert slopes[0] < 0 < slopes[1]
    assert slopes[5] > 0


def test_what_is_clipped_is_pulled_back_and_never_farther_out():
    # The level 1 is the commonest and -1 the rarest: a negative slope pulls up. Beyond 1 nothing does.
    units = torch.tensor([[5.0] * 800 + [0.6, 0.0, -0.4] * 60 + [-3.0] * 20])
    slopes = coded_length(units, one_context(1, 1000), 3).slopes[0]
    assert slopes[0] == 0
    assert slopes[800] < 0
    assert slopes[-1] < 0


def test_each_context_has_lengths_of_its_own():
    indices = torch.tensor([[1] * 90 + [0] * 10, [0] * 90 + [1] * 10])
    contexts = torch.tensor([[0] * 100, [5] * 100], dtype=torch.uint8)
    lengths = code_lengths(indices, contexts, 3)
    assert lengths[0, 1] < 0.2 < 3 < lengths[0, 0]
    assert lengths[5, 0] < 0.2 < 3 < lengths[5, 1]


@pytest.mark.parametrize(("levels", "spread"), [(3, 0.4), (7, 0.7), (15, 3.0)])
def test_the_estimate_is_what_the_container_takes(levels: int, spread: float):
    """Rows and places of the kernel that differ, as in trained networks: within 5% of the bytes of the stream."""
    torch.manual_seed(levels)
    rows, places = torch.rand(96, 1, 1, 1) + 0.3, torch.rand(1, 1, 3, 3) + 0.5
    units = torch.randn(96, 64, 3, 3) * rows * places * spread
    grid = Grid(uniform_levels(levels.bit_length()), torch.ones(1))
    weight = grid.nearest(units)
    stored = len(tensor_stream.pack_state({"weight": weight}, {"weight": grid}))

    indices = grid.indices(weight)
    found = coded_length(units, find_contexts(indices, levels), levels)
    assert float(found.bits) / 8 == pytest.approx(stored, rel=0.05)
    # Without the container's classes it would say more.
    assert float(coded_length(units, one_context(*units.shape), levels).bits) > float(found.bits) * 1.03
