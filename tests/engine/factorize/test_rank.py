from __future__ import annotations

import numpy as np
import pytest
import torch

from modelpress.engine.factorize.rank import choose_rank, rank_by_values
from modelpress.spec.steps import RankEnergy, RankEvbmf, RankNumber, RankPerLayer, RankRatio

VALUES = torch.tensor([4.0, 2.0, 2.0, 1.0])  # squares 16 4 4 1 of 25 in all


def test_by_number_and_by_layer():
    assert choose_rank(RankNumber(value=3), "a", 4) == 3
    assert choose_rank(RankPerLayer(values={"a": 2, "b": 4}), "b", 4) == 4


@pytest.mark.parametrize(("ratio", "rank"), [(0.1, 1), (0.25, 1), (0.49, 1), (0.5, 2), (0.99, 3), (1.0, 4)])
def test_by_ratio(ratio: float, rank: int):
    assert choose_rank(RankRatio(value=ratio), "a", 4) == rank


def test_a_ratio_that_is_a_whole_number_in_decimals():
    assert choose_rank(RankRatio(value=0.29), "a", 100) == 29


@pytest.mark.parametrize(
    ("energy", "rank"), [(0.01, 1), (16 / 25, 1), (0.65, 2), (20 / 25, 2), (0.9, 3), (24 / 25, 3), (0.97, 4), (1.0, 4)]
)
def test_by_energy(energy: float, rank: int):
    assert rank_by_values(RankEnergy(value=energy), VALUES[None], (4, 6)) == rank


def test_all_the_energy_of_a_rank_deficient_matrix():
    assert rank_by_values(RankEnergy(value=1.0), torch.tensor([[1.0, 0.5, 0.0]]), (3, 3)) == 2
    assert rank_by_values(RankEnergy(value=0.9), torch.zeros(1, 3), (3, 3)) == 1


def test_the_energy_of_groups_is_that_of_all():
    # Squares 9 1 0 and 4 4 2 of 20 in all: rank 1 keeps 13, rank 2 18.
    values = torch.tensor([[9.0, 1, 0], [4, 4, 2]]).sqrt()
    assert [rank_by_values(RankEnergy(value=share), values, (3, 3)) for share in (0.65, 0.66, 0.9, 0.91)] == [
        1,
        2,
        2,
        3,
    ]


def test_ranks_that_need_the_weights_are_not_known_without():
    assert choose_rank(RankEnergy(value=0.5), "a", 4) is None


@pytest.mark.parametrize("planted", [0, 2])
def test_evbmf_finds_the_rank_that_each_of_the_groups_has(planted: int):
    draw = np.random.default_rng(0)
    parts = draw.normal(size=(4, 40, planted)) @ draw.normal(size=(4, planted, 60))
    values = np.linalg.svd(parts + 0.3 * draw.normal(size=(4, 40, 60)), compute_uv=False)
    assert rank_by_values(RankEvbmf(), torch.from_numpy(values), (40, 60)) == planted
    # All groups alike are as one of them.
    alike = torch.from_numpy(values[:1])
    assert rank_by_values(RankEvbmf(), alike.expand(3, -1), (40, 60)) == rank_by_values(RankEvbmf(), alike, (40, 60))
