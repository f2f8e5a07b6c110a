from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpress.engine.distill.relational import relational_losses


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def by_the_paper(student: np.ndarray, teacher: np.ndarray) -> tuple[float, float]:
    """Equations 5 to 8, pair by pair and triplet by triplet."""

    def distances(points: np.ndarray) -> list[float]:
        lengths = [np.linalg.norm(points[i] - points[j]) for i, j in permutations(range(len(points)), 2)]
        return list(lengths / np.mean(lengths))

    def cosines(points: np.ndarray) -> list[float]:
        found = []
        for i, j, k in permutations(range(len(points)), 3):
            one, other = points[i] - points[j], points[k] - points[j]
            found.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
        return found

    return tuple(  # type: ignore[return-value]
        float(np.mean([huber(one - other) for one, other in zip(of(student), of(teacher), strict=True)]))
        for of in (distances, cosines)
    )


@settings(max_examples=15, deadline=None)
@given(images=st.integers(3, 6), width=st.integers(1, 5), seed=st.integers(0, 1000))
def test_against_the_paper_written_out(images: int, width: int, seed: int):
    draw = np.random.default_rng(seed)
    student, teacher = draw.normal(size=(images, width)), draw.normal(size=(images, 4))
    found = relational_losses(torch.from_numpy(student), torch.from_numpy(teacher))
    assert [float(one) for one in found] == pytest.approx(by_the_paper(student, teacher), abs=1e-9)


def test_a_golden_number():
    """Three points on a line, 0, 1, 2, against the corners of an equilateral triangle.

    Distances over their mean 4/3: 3/4, 3/4, 3/2 against 1: (1/32 + 1/32 + 1/8) / 3 = 1/16. Cosines at 0 and 2: 1, at 1:
    -1, against 1/2: (1/8 + 1/8 + 1) / 3 = 5/12, for the difference of 3/2 costs 3/2 - 1/2.
    """
    line = torch.tensor([[0.0], [1.0], [2.0]])
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    distance, angle = relational_losses(line, triangle)
    assert float(distance) == pytest.approx(1 / 16, abs=1e-6)
    assert float(angle) == pytest.approx(5 / 12, abs=1e-6)


def test_moved_turned_and_scaled_embeddings_are_related_alike():
    points = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    distance, angle = relational_losses(7 * points @ turn + 5, points)
    assert float(distance) == pytest.approx(0, abs=1e-12)
    assert float(angle) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rows", [[0], [0, 1], [0, 0, 1, 2], [0, 0, 0]])
def test_few_or_equal_images_have_finite_gradients(rows: list[int]):
    student = torch.tensor([[0.0, 1.0], [2.0, 0.5], [1.0, 3.0]])[rows].requires_grad_()
    distance, angle = relational_losses(student, torch.randn(len(rows), 4))
    (distance + angle).backward()
    assert student.grad is not None
    assert bool(student.grad.abs().max() < 100)
    if len(rows) < 3:
        assert float(angle.detach()) == 0
