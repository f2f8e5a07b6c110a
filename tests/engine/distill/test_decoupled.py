from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.distill.decoupled import DecoupledLoss, decoupled_divergences
from modelpress.engine.distill.hinton import softened_divergence
from modelpress.engine.distill.logits import LogitLoss

STUDENT = np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
TEACHER = np.array([[2.0, 1.0, -3.0], [0.0, 3.0, 1.0]])
LABELS = np.array([0, 2])


class Fixed(nn.Module):
    """A teacher that always says the same."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(TEACHER).float()


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


def by_the_paper(temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """TCKD, NCKD and the teacher's p_t of each image, written out with the label's column taken away."""
    rows = []
    for student, teacher, label in zip(STUDENT / temperature, TEACHER / temperature, LABELS, strict=True):
        q, p = softmax(student), softmax(teacher)
        target = kl(np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]]))
        others = kl(softmax(np.delete(teacher, label)), softmax(np.delete(student, label)))
        rows.append((target, others, p[label]))
    target, others, of_label = np.array(rows).T
    return target, others, of_label


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("alpha", "beta", "label_weight"), [(1.0, 8.0, 1.0), (0.0, 2.0, 0.0), (3.0, 0.0, 0.5)])
def test_against_numpy(temperature: float, alpha: float, beta: float, label_weight: float):
    target, others, _ = by_the_paper(temperature)
    hard = -np.mean([np.log(softmax(row)[label]) for row, label in zip(STUDENT, LABELS, strict=True)])
    expected = temperature**2 * (alpha * target + beta * others).mean() + label_weight * hard
    loss = DecoupledLoss(Fixed(), temperature=temperature, alpha=alpha, beta=beta, label_weight=label_weight)
    found = loss(torch.from_numpy(STUDENT).float(), torch.from_numpy(LABELS), torch.zeros(2, 1, 1, 1))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_a_mixture_has_the_class_of_its_larger_part():
    """The first image's larger part has no label: the teacher's largest output, class 0, takes its place."""
    target, others, _ = by_the_paper(2.0)
    shares = torch.tensor([[0.0, 0.4, 0.0], [0.3, 0.0, 0.7]])
    logarithms = [np.log(softmax(row)) for row in STUDENT]
    hard = -(0.4 * logarithms[0][1] + 0.3 * logarithms[1][0] + 0.7 * logarithms[1][2]) / 1.4
    expected = 4 * (target + 2 * others).mean() + 0.5 * hard
    loss = DecoupledLoss(Fixed(), temperature=2.0, alpha=1.0, beta=2.0, label_weight=0.5)
    found = loss(torch.from_numpy(STUDENT).float(), shares, torch.zeros(2, 1, 1, 1))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_a_golden_number():
    """Worked by hand: student even over three classes, teacher (1/2, 3/8, 1/8), label 0."""
    teacher = torch.tensor([[0.5, 0.375, 0.125]], dtype=torch.float64).log()
    target, others = decoupled_divergences(torch.zeros(1, 3, dtype=torch.float64), teacher, torch.tensor([0]))
    # TCKD = 1/2 ln(3/2) + 1/2 ln(3/4); NCKD = 3/4 ln(3/2) + 1/4 ln(1/2), of (3/4, 1/4) against (1/2, 1/2)
    assert float(target) == pytest.approx(0.0588915, abs=1e-6)
    assert float(others) == pytest.approx(0.1308120, abs=1e-6)


def test_both_parts_make_the_divergence_of_hinton():
    """KD = TCKD + (1 - p_t) NCKD, the paper's equation 6, image by image."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(20, 7, generator=draw, dtype=torch.float64) for _ in range(2))
    labels = torch.arange(20) % 7
    target, others = decoupled_divergences(student, teacher, labels)
    rest = 1 - teacher.softmax(1)[torch.arange(20), labels]
    for image in range(20):
        whole = softened_divergence(student[image, None], teacher[image, None], 1.0)
        torch.testing.assert_close(target[image] + rest[image] * others[image], whole)


def test_networks_that_are_sure_have_finite_losses_and_gradients():
    student = torch.tensor([[200.0, 0.0, 1.0], [-200.0, 0.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[300.0, 2.0, 0.0], [300.0, 2.0, 0.0]])
    target, others = decoupled_divergences(student, teacher, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad((target + others).sum(), student)
    assert bool(gradient.isfinite().all())
    # (e^2, 1) / (e^2 + 1) against (1, e) / (1 + e): p = 0.880797, q = 0.268941
    by_hand = kl(np.array([0.880797, 0.119203]), np.array([0.268941, 0.731059]))
    assert others.tolist() == pytest.approx([by_hand] * 2, rel=1e-4)


def test_two_classes_have_nothing_but_the_target():
    _, others = decoupled_divergences(torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 1, 0, 1]))
    assert others.tolist() == [0.0] * 4


def test_regression_of_logits():
    """By hand: differences (-1, -1, 2) and (0.5, -1, -1), squares 1 + 1 + 4 + 0.25 + 1 + 1 over six."""
    images = torch.zeros(2, 1, 1, 1)
    student, labels = torch.from_numpy(STUDENT).float(), torch.from_numpy(LABELS)
    assert float(LogitLoss(Fixed(), label_weight=0.0)(student, labels, images)) == pytest.approx(8.25 / 6)
    hard = -np.mean([np.log(softmax(row)[label]) for row, label in zip(STUDENT, LABELS, strict=True)])
    found = LogitLoss(Fixed(), label_weight=2.0)(student, labels, images)
    assert float(found) == pytest.approx(8.25 / 6 + 2 * hard, rel=1e-5)
