"""k-means of numbers against scikit-learn's, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from modelpress.engine.quantize.kmeans import Floats, kmeans, linear_start


def inertia(values: Floats, centroids: Floats) -> float:
    """Sum of squared distances to the nearest centroid, the plain way."""
    return float(((values[:, None] - centroids[None, :]) ** 2).min(1).sum())


def test_two_clusters_by_hand():
    found = kmeans(np.array([10.0, 0.0, 9.0, 1.0]), np.array([0.0, 10.0]))
    assert found.tolist() == [0.5, 9.5]


def test_a_fixed_centroid_stays_and_takes_part():
    # With zero fixed, 1 belongs to it and not to 4; of 4 and 6 the mean is 5.
    found = kmeans(np.array([1.0, 4.0, 6.0]), np.array([0.0, 4.0]), fixed=0.0)
    assert found.tolist() == [0.0, 5.0]


def test_few_different_values_are_their_own_centroids():
    assert kmeans(np.array([3.0, 1.0, 3.0]), np.linspace(0, 3, 8)).tolist() == [1.0, 3.0]


@pytest.mark.parametrize("count", [4, 16, 64])
def test_no_worse_than_scikit_learn_from_the_same_start(count: int):
    values = np.random.default_rng(count).normal(size=3000)
    start = linear_start(values.min(), values.max(), count)
    theirs = KMeans(count, init=start[:, None], n_init=1, max_iter=1000, tol=0).fit(values[:, None])
    assert inertia(values, kmeans(values, start)) <= theirs.inertia_ * 1.02


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-100, 100).filter(lambda value: abs(value) > 1e-6 or value == 0), min_size=1, max_size=60),
    st.integers(2, 9),
)
def test_centroids_rise_and_are_means_of_what_is_nearest(values: list[float], count: int):
    numbers = np.array(values)
    found = kmeans(numbers, linear_start(min(values), max(values) + 1e-3, count))
    assert (np.diff(found) > 0).all()
    if len(np.unique(numbers)) > count:
        nearest = np.abs(numbers[:, None] - found[None, :]).argmin(1)
        for index in np.unique(nearest):
            assert found[index] == pytest.approx(numbers[nearest == index].mean(), abs=1e-6)
