"""k-means of single numbers: sorted once, so that a round costs a search for each boundary and not a pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rounds end when no number changes its cluster; with hundreds of clusters that may take thousands of them.
_MOST_ROUNDS = 10_000


def linear_start(least: float, largest: float, count: int) -> Floats:
    """`count` evenly spaced centroids from `least` to `largest`.

    The best of the three starts of Deep Compression (section 3.2): it leaves centroids among the few large weights.
    """
    return np.linspace(least, largest, count)


def kmeans(values: Floats, start: Floats, fixed: float | None = None) -> Floats:
    """Centroids, rising, at which Lloyd's algorithm comes to rest; the same input gives the same bits.

    `values` (N,) in any order, at least one; `start` (K,) rising. A centroid that is `fixed` takes part and stays where
    it is: it must be in `start`. A cluster that becomes empty is put into the cluster with the largest
    squared error, which it halves; with no more different values than centroids, the values are the centroids.

    Example: 0, 1, 9, 10 from (0, 10): the boundary is 5, the centroids are 0.5 and 9.5.
    """
    values = np.sort(values)
    different = np.unique(values if fixed is None else np.append(values, fixed))
    if len(different) <= len(start):
        return different
    sums = np.concatenate(([0.0], np.cumsum(values)))
    squares = np.concatenate(([0.0], np.cumsum(values**2)))

    def ends(centroids: Floats) -> NDArray[np.intp]:
        """Where the clusters begin and end among the sorted values, (K + 1,)."""
        inner = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
        return np.concatenate(([0], inner, [len(values)]))

    centroids = start.astype(np.float64)
    # Each filling of empty clusters makes the error smaller; in theory rounding could go round in circles.
    for _ in range(len(start)):
        centroids = _settle(centroids, sums, ends, fixed)
        filled = _fill_empty(centroids, values, sums, squares, ends(centroids), fixed)
        if filled is None:
            break
        centroids = filled
    return centroids


def _settle(centroids: Floats, sums: Floats, ends: Callable[[Floats], NDArray[np.intp]], fixed: float | None) -> Floats:
    """Lloyd's rounds: each value to the nearest centroid, each centroid to the mean of its values."""
    borders = ends(centroids)
    for _ in range(_MOST_ROUNDS):
        counts = np.diff(borders)
        moving = counts > 0
        if fixed is not None:
            moving &= centroids != fixed
        means = np.diff(sums[borders]) / np.maximum(counts, 1)
        centroids = np.where(moving, means, centroids)
        found = ends(centroids)
        if np.array_equal(found, borders):
            break
        borders = found
    return centroids


def _fill_empty(
    centroids: Floats,
    values: Floats,
    sums: Floats,
    squares: Floats,
    borders: NDArray[np.intp],
    fixed: float | None,
) -> Floats | None:
    """Centroids with those of empty clusters moved to where the error is largest; None when none is empty."""
    counts = np.diff(borders)
    empty = counts == 0
    if fixed is not None:
        empty &= centroids != fixed
    if not empty.any():
        return None
    totals = np.diff(sums[borders])
    errors = np.diff(squares[borders]) - 2 * centroids * totals + counts * centroids**2
    errors[empty] = -np.inf
    worst = np.argsort(-errors, kind="stable")[: int(empty.sum())]
    # Half-way to the end of the cluster that is farther off; the rounds that follow bring both to their places.
    low, high, middle = values[borders[worst]], values[borders[worst + 1] - 1], centroids[worst]
    far = np.where(middle - low > high - middle, low, high)
    return np.sort(np.concatenate((centroids[~empty], ((far + middle) / 2)[far != middle])))
