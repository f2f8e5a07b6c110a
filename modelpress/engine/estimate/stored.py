"""Bits that tensors take in the compact container, by the entropies that its coder comes close to.

A tensor of n values, a share k of which is not zero, takes

    n H(k)     for where these are, H(k) = -k log2 k - (1 - k) log2 (1 - k); by rows where those differ in their zeros
    n k b      for what they are

with b the entropy of the levels of a quantized weight, and of the four bytes of a float32 (`packing`) otherwise:
mantissas are noise, of 8 bits a byte, and exponents of trained weights have some 3 bits. Entropies are those of Shannon
(1948, section 6) by the counts in a sample, with Miller's correction for its size (1955): n symbols of m kinds
show about (m - 1) / (2 n ln 2) bits too few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from modelpress.engine.estimate.sample import Sample
from modelpress.engine.formats.packing import planes_of
from modelpress.engine.formats.tensor_stream import LEAST_ZEROS, OWN_PLANES

Shares = npt.NDArray[np.float64]

# What the coder is told of a row's class, and of how often a symbol comes, about (`contexts`).
_CLASS_BITS = 2.2
_FREQUENCY_BITS = 6.0


def stored_bits(samples: Iterable[Sample]) -> float:
    """Bits of all these tensors together. Small ones share their statistics, as in the container."""
    bits = 0.0
    pool: list[tuple[Tensor, float]] = []  # values, and how many each stands for
    for sample in samples:
        kept = sample.rows != 0
        values = sample.rows[kept]
        if sample.grid is not None:
            bits += _position_bits(kept) * sample.factor
            levels = np.bincount(sample.grid.indices(sample.rows)[kept].numpy())
            bits += sample.factor * len(values) * _entropy(levels, len(values))
            bits += _FREQUENCY_BITS * np.count_nonzero(levels)
            scales = sample.grid.scales
            pool.append((scales, sample.channels / len(sample.rows)) if len(scales) > 1 else (sample.grid.levels, 1.0))
            continue
        if len(values) < kept.numel() * (1 - LEAST_ZEROS):
            bits += _position_bits(kept) * sample.factor
        if len(values) * sample.factor < OWN_PLANES:
            pool.append((values, sample.factor))
        else:
            bits += _value_bits([(values, sample.factor)])
    return bits + _value_bits(pool)


def _position_bits(kept: Tensor) -> float:
    """Bits of a mask (R, N), by one share of ones or by each row's, whichever is less."""
    rows, columns = kept.shape
    ones = kept.sum(1).double().numpy()
    together = rows * columns * _binary_entropy(np.array([ones.sum() / (rows * columns)]))[0]
    by_row = columns * _binary_entropy(ones / columns).sum() + rows * (_CLASS_BITS + 0.5 / math.log(2))
    return float(min(together, by_row))


def _value_bits(parts: Sequence[tuple[Tensor, float]]) -> float:
    """Bits of float32 values that are coded together, each standing for so many."""
    seen = sum(len(values) for values, _ in parts)
    if not seen:
        return 0.0
    shares = np.concatenate([np.full(len(values), factor) for values, factor in parts])
    planes = planes_of(np.concatenate([values.numpy() for values, _ in parts]).astype(np.float32))
    bits = sum(min(8.0, _entropy(np.bincount(plane, shares, 256), seen)) for plane in planes)
    return float(shares.sum()) * bits


def _entropy(counts: npt.NDArray[np.number], seen: int) -> float:
    """Bits of a symbol that comes as often as `counts` say, of which `seen` were looked at."""
    some = counts[counts > 0]
    if not len(some):
        return 0.0
    shares = some / some.sum()
    return float(-(shares * np.log2(shares)).sum() + (len(some) - 1) / (2 * seen * math.log(2)))


def _binary_entropy(shares: Shares) -> Shares:
    inner = np.clip(shares, 1e-12, 1 - 1e-12)
    return np.asarray(-(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner)), np.float64)
