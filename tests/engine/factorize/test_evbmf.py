from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.factorize.evbmf import evbmf_rank, noise_variance, threshold
from modelpress.engine.factorize.step import factorize
from modelpress.spec.steps import Factorize, LayerSelection, RankEvbmf
from tests.support.contexts import context
from tests.support.tiny import tiny_network


def planted(rows: int, columns: int, rank: int, noise: float, seed: int = 0) -> np.ndarray:
    """Orthonormal components of singular value sqrt(rows columns), far above the noise, and the noise."""
    random = np.random.default_rng(seed)
    left, _ = np.linalg.qr(random.normal(size=(rows, rows)))
    right, _ = np.linalg.qr(random.normal(size=(columns, columns)))
    signal = math.sqrt(rows * columns) * left[:, :rank] @ right[:, :rank].T
    return signal + noise * random.normal(size=(rows, columns))


def values_of(matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.linalg.svd(matrix, compute_uv=False))


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(20, 60),
    columns=st.integers(20, 90),
    rank=st.integers(0, 6),
    noise=st.sampled_from([0.01, 0.1, 0.5]),
    seed=st.integers(0, 50),
)
def test_a_planted_rank_is_found(rows: int, columns: int, rank: int, noise: float, seed: int):
    matrix = planted(rows, columns, rank, noise, seed)
    assert evbmf_rank(values_of(matrix), matrix.shape) == rank
    assert evbmf_rank(values_of(matrix.T), matrix.T.shape) == rank


def test_the_noise_that_is_found_is_that_which_was_added():
    squares = values_of(planted(100, 200, 5, 0.3)).square()
    assert math.sqrt(noise_variance(squares, 100, 200)) == pytest.approx(0.3, rel=0.02)


def test_without_noise_the_rank_is_that_of_the_matrix():
    matrix = planted(30, 40, 5, 0.0).astype(np.float32)
    assert evbmf_rank(values_of(matrix), matrix.shape) == np.linalg.matrix_rank(matrix) == 5
    assert evbmf_rank(torch.zeros(4), (4, 9)) == 0
    assert evbmf_rank(torch.ones(1), (1, 9)) == 0


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.1, 0.01])
def test_the_threshold_against_the_approximation_of_the_paper(alpha: float):
    # tau is 2.5129 sqrt(alpha), nearly: exactly so for a square matrix.
    tau = 2.5129 * math.sqrt(alpha)
    assert threshold(alpha) == pytest.approx((1 + tau) * (1 + alpha / tau), rel=1e-5 if alpha == 1 else 0.03)


def test_the_free_energy_against_the_formula_value_by_value():
    rows, columns = 8, 20
    squares = values_of(planted(rows, columns, 2, 0.5)).square()
    found = noise_variance(squares, rows, columns)
    alpha = rows / columns
    tau_approximate = 2.5129 * math.sqrt(alpha)
    least = (1 + tau_approximate) * (1 + alpha / tau_approximate)

    def energy(variance: float) -> float:
        total = 0.0
        for square in squares.tolist():
            x = square / (columns * variance)
            total += x - math.log(x)
            if x > least:
                tau = (x - (1 + alpha) + math.sqrt((x - (1 + alpha)) ** 2 - 4 * alpha)) / 2
                total += math.log(tau + 1) + alpha * math.log(tau / alpha + 1) - tau
        return total

    tried = [found * 10**exponent for exponent in np.linspace(-2, 2, 401)]
    upper = float(squares.sum()) / (rows * columns)
    best = min((variance for variance in tried if variance <= upper), key=energy)
    assert best == pytest.approx(found, rel=0.03)  # Steps of the search are 2.3%.


def test_the_step_takes_what_stands_above_the_noise_and_names_the_rest():
    original = tiny_network()
    with torch.no_grad():
        original.module.get_parameter("7.weight").copy_(torch.from_numpy(planted(32, 256, 3, 0.2)))
        original.module.get_parameter("9.weight").copy_(torch.from_numpy(planted(10, 32, 0, 0.2)))
    step = Factorize(rank=RankEvbmf(), layers=LayerSelection(include=("7", "9")))
    result = factorize(original, step, context(original))
    assert [(change.name, change.rank) for change in result.layers] == [("7", 3)]
    assert [(skip.name, skip.reason) for skip in result.skipped] == [
        ("9", "none of its singular values is above the noise (EVBMF)")
    ]
