from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.distill.hinton import HintonLoss, LabelLoss, frozen_teacher, softened_divergence
from tests.support.tiny import tiny_module

STUDENT = np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
TEACHER = np.array([[2.0, 1.0, -3.0], [0.0, 3.0, 1.0]])
LABELS = np.array([0, 1])


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def divergence(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return float((p * (np.log(p) - np.log(q))).sum(1).mean())


class Fixed(nn.Module):
    """A teacher that always says the same."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(TEACHER)


def call(alpha: float, temperature: float, label_smoothing: float = 0.0) -> float:
    loss = HintonLoss(Fixed(), temperature=temperature, alpha=alpha, label_smoothing=label_smoothing)
    return float(loss(torch.from_numpy(STUDENT).float(), torch.from_numpy(LABELS), torch.zeros(2, 1, 1, 1)))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_against_numpy(alpha: float, temperature: float):
    hard = -np.log(softmax(STUDENT)[[0, 1], LABELS]).mean()
    expected = alpha * temperature**2 * divergence(STUDENT, TEACHER, temperature) + (1 - alpha) * hard
    assert call(alpha, temperature) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_without_a_say_is_not_asked():
    class Silent(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("asked")

    loss = HintonLoss(Silent(), temperature=4.0, alpha=0.0)
    outputs, labels = torch.from_numpy(STUDENT), torch.from_numpy(LABELS)
    assert torch.equal(loss(outputs, labels, torch.zeros(2, 1, 1, 1)), nn.functional.cross_entropy(outputs, labels))


def test_a_golden_number():
    """Worked by hand: two classes, T = 2, student even, teacher 4 : 1 after softening."""
    student = torch.zeros(1, 2)
    teacher = torch.tensor([[2 * np.log(4.0), 0.0]], dtype=torch.float32)
    # KL = 0.8 ln(0.8 / 0.5) + 0.2 ln(0.2 / 0.5) = 0.192745; times T^2 = 4
    assert float(softened_divergence(student, teacher, 2.0)) == pytest.approx(4 * 0.1927449, rel=1e-5)


def test_label_smoothing_spreads_over_all_classes():
    log_q = np.log(softmax(STUDENT))
    target = np.full((2, 3), 0.3 / 3)
    target[[0, 1], LABELS] += 0.7
    expected = -(target * log_q).sum(1).mean()
    assert call(0.0, 1.0, 0.3) == pytest.approx(expected, rel=1e-5)
    own = LabelLoss(0.3)(torch.from_numpy(STUDENT), torch.from_numpy(LABELS), torch.zeros(0))
    assert float(own) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_labels_of_mixtures_are_mixed_losses(label_smoothing: float):
    """lambda CE(a) + (1 - lambda) CE(b) (Zhang et al. 2018), where b of the second image has no label."""
    outputs, images = torch.from_numpy(STUDENT).float(), torch.zeros(2, 1, 1, 1)

    def hard(image: int, label: int) -> float:
        target = np.full(3, label_smoothing / 3)
        target[label] += 1 - label_smoothing
        return float(-(target * np.log(softmax(STUDENT))[image]).sum())

    # In the first image class 2 has 0.7 and class 0 the rest; in the second class 1 has 0.6.
    shares = torch.tensor([[0.3, 0.0, 0.7], [0.0, 0.6, 0.0]])
    expected = (0.7 * hard(0, 2) + 0.3 * hard(0, 0) + 0.6 * hard(1, 1)) / 1.6
    assert float(LabelLoss(label_smoothing)(outputs, shares, images)) == pytest.approx(expected, rel=1e-5)
    loss = HintonLoss(Fixed(), temperature=4.0, alpha=0.3, label_smoothing=label_smoothing)
    taught = 0.3 * 16 * divergence(STUDENT, TEACHER, 4.0) + 0.7 * expected
    assert float(loss(outputs, shares, images)) == pytest.approx(taught, rel=1e-4)


def test_shares_of_whole_images_are_their_labels_and_none_is_no_loss():
    outputs, images = torch.from_numpy(STUDENT).float(), torch.zeros(2, 1, 1, 1)
    whole = LabelLoss(0.1)(outputs, torch.tensor([2, -1]), images)
    assert float(LabelLoss(0.1)(outputs, torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), images)) == pytest.approx(
        float(whole), rel=1e-6
    )
    assert float(LabelLoss(0.1)(outputs, torch.zeros(2, 3), images)) == 0.0


def test_the_factor_keeps_the_gradient_when_the_temperature_changes():
    """At high T the gradient tends to (z - v) / K for centred logits, whatever T is (Hinton et al., equation 4)."""
    centred_student = torch.from_numpy(STUDENT - STUDENT.mean(1, keepdims=True))
    centred_teacher = torch.from_numpy(TEACHER - TEACHER.mean(1, keepdims=True))
    limit = (centred_student - centred_teacher) / 3 / 2  # K classes, mean of 2 images
    for temperature in (100.0, 1000.0):
        student = centred_student.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(softened_divergence(student, centred_teacher, temperature), student)
        torch.testing.assert_close(gradient, limit, rtol=0, atol=3 / temperature)


def test_the_teacher_is_a_copy_that_does_not_learn():
    original = tiny_module()
    teacher = frozen_teacher(original, torch.device("cpu"))
    assert not teacher.training
    assert original.training
    assert all(parameter.requires_grad for parameter in original.parameters())
    before = [buffer.clone() for buffer in teacher.buffers()]
    outputs = torch.randn(4, 10, requires_grad=True)
    loss = HintonLoss(teacher, temperature=4.0, alpha=0.9)(outputs, torch.tensor([0, 1, 2, 3]), torch.randn(4, 1, 8, 8))
    loss.backward()
    assert outputs.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, teacher.buffers(), strict=True))


def test_teacher_and_student_alike_have_no_divergence():
    logits = torch.randn(5, 7)
    assert float(softened_divergence(logits, logits, 3.0)) == pytest.approx(0.0, abs=1e-6)
