"""The rank of a matrix under its noise: empirical variational Bayesian matrix factorization.

Nakajima, Sugiyama, Babacan and Tomioka 2013 ("Global Analytic Solution of Fully-observed Variational Bayesian Matrix
Factorization", JMLR 14), in their notation: V is L x M with L <= M, its singular values gamma_h, alpha = L / M.
A component stays where x = gamma^2 / (M sigma^2) is above a threshold that alpha alone gives; the noise's variance
sigma^2 is the one with the least free energy, the only number that is searched for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GRID = 512  # Points over the bounds of the variance. The free energy may have several valleys.
GOLDEN = (math.sqrt(5) - 1) / 2


def evbmf_rank(singular_values: Tensor, shape: tuple[int, int]) -> int:
    """How many singular values of a matrix of this shape are above its noise; 0 when all of them may be noise.

    `singular_values` are all of them, min(shape) in number, largest first.
    """
    short, long = min(shape), max(shape)
    squares = singular_values.double().cpu().square()
    if squares[0] == 0:
        return 0
    variance = noise_variance(squares, short, long)
    # What arithmetic alone leaves is no component, whatever the variance: numpy's matrix_rank has the same tolerance.
    rounding = (squares[0].sqrt() * long * torch.finfo(singular_values.dtype).eps).square()
    return int((squares > max(long * variance * threshold(short / long), float(rounding))).sum())


def threshold(alpha: float) -> float:
    """Least x of a component that stays: (1 + tau) (1 + alpha / tau), where Phi(tau) + Phi(tau / alpha) = 0."""
    # Phi falls, and has its zero at 2.5129: the sum has its own between alpha times that and that.
    low, high = 2.5 * alpha, 2.52
    for _ in range(100):
        middle = (low + high) / 2
        if _phi(middle) + _phi(middle / alpha) > 0:
            low = middle
        else:
            high = middle
    return (1 + low) * (1 + alpha / low)


def noise_variance(squares: Tensor, short: int, long: int) -> float:
    """The variance sigma^2 of least free energy, between the bounds that the paper proves.

    `squares` are the squared singular values of the short x long matrix, largest first, not all zero.
    """
    alpha = short / long
    least_x = threshold(alpha)
    most_rank = math.ceil(short / (1 + alpha)) - 1
    high = float(squares.sum()) / (short * long)
    rest = squares[most_rank:]
    low = max(float(rest[0]) / (long * least_x), float(rest.mean()) / long)
    # A matrix of low rank without any noise has none to find: what float64 can tell from its largest value stands in.
    low = min(max(low, high * torch.finfo(torch.float64).eps), high)

    def energy(logarithms: Tensor) -> Tensor:
        return _free_energy(squares / long, logarithms, alpha, least_x)

    grid = torch.linspace(math.log(low), math.log(high), GRID, dtype=torch.float64)
    best = int(energy(grid).argmin())
    left, right = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, GRID - 1)])
    while right - left > 1e-9:
        step = GOLDEN * (right - left)
        inner = energy(torch.tensor([right - step, left + step], dtype=torch.float64))
        if inner[0] < inner[1]:
            right = left + step
        else:
            left = right - step
    return math.exp((left + right) / 2)


def _phi(value: float) -> float:
    return math.log1p(value) / value - 0.5


def _free_energy(scaled: Tensor, logarithms: Tensor, alpha: float, least_x: float) -> Tensor:
    """Free energy at each logarithm of sigma^2, constants aside: sum of x - log x + [x > least_x] psi_1(x).

    The logarithm of each squared singular value is such a constant; left out, values of zero do no harm.
    """
    x = scaled / logarithms.exp()[:, None]  # (variances, singular values)
    centred = x.clamp(min=least_x) - (1 + alpha)
    tau = (centred + (centred.square() - 4 * alpha).sqrt()) / 2
    gain = tau.log1p() + alpha * (tau / alpha).log1p() - tau
    return (x + logarithms[:, None] + torch.where(x > least_x, gain, 0.0)).sum(dim=1)
