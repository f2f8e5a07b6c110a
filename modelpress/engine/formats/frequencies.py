"""How often each symbol comes, in a byte a symbol: what the entropy coder is told before it decodes.

A stored byte is 0 for a symbol that never comes, and v + 1 for one whose weight is 2^(v / 8): within 4.4% of the truth,
which costs less than a thousandth of the bits. Weights become frequencies that sum to TOTAL by whole numbers alone, so
that every machine finds the same ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelpress.engine.formats.packing import PackingError

PRECISION = 14
TOTAL = 2**PRECISION

# 2^(k / 8) with 16 fractional bits, for k = 0 ... 7.
_EIGHTHS = np.array([65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194], np.int64)
# The commonest symbol's exponent. Weights reach 2^24 times below it, the frequencies 2^14.
_HIGHEST = 24


def describe(counts: npt.NDArray[np.int64], coarseness: int = 1) -> npt.NDArray[np.uint8]:
    """Bytes for counts of symbols (contexts, alphabet); coarser ones (in eighths of a bit) repeat more often."""
    most = np.maximum(counts.max(axis=1, keepdims=True), 1)
    eighths = 8 * (_HIGHEST + np.log2(np.maximum(counts, 1) / most))
    rounded = np.maximum(np.rint(eighths / coarseness) * coarseness, 0)
    return np.where(counts > 0, rounded + 1, 0).astype(np.uint8)


def frequencies(described: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Frequencies (contexts, alphabet), each row summing to TOTAL, that these bytes stand for.

    A context without any symbol gives its first one all. Raises PackingError for bytes that `describe` cannot give.
    """
    if described.size and int(described.max()) > 8 * _HIGHEST + 1:
        raise PackingError("a symbol's frequency is beyond the range")
    exponents = np.maximum(described.astype(np.int64) - 1, 0)
    present = described > 0
    present[~present.any(axis=1), 0] = True
    weights = np.where(present, _EIGHTHS[exponents % 8] << (exponents // 8), 0)
    room = TOTAL - present.sum(axis=1, keepdims=True)  # each that comes has one slot at the least
    found = present + weights * room // weights.sum(axis=1, keepdims=True)
    # What rounding down left goes to the commonest.
    found[np.arange(len(found)), weights.argmax(axis=1)] += TOTAL - found.sum(axis=1)
    return np.asarray(found, np.int64)


def bits(counts: npt.NDArray[np.int64], described: npt.NDArray[np.uint8]) -> float:
    """Length in bits of symbols with these counts under these frequencies."""
    lengths = PRECISION - np.log2(np.maximum(frequencies(described), 1))
    return float((counts * lengths).sum())
