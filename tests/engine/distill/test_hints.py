from __future__ import annotations

import numpy as np
import pytest
import torch

from modelpress.engine.distill.hinton import HintonLoss
from modelpress.engine.distill.hints import HintLoss
from modelpress.engine.distill.loss import distillation_loss
from modelpress.engine.training import train
from modelpress.spec.steps.distillation_loss import Hints, LayerPair
from modelpress.spec.training import Training
from tests.support.image_data import noise
from tests.support.tiny import tiny_module

CPU = torch.device("cpu")
PAIR = LayerPair(teacher="3", student="3")


def test_a_golden_number():
    """The student's 2 x 2 map is averaged to the teacher's one pixel: (1 + 2 + 3 + 6) / 4 = 3; (3 - 5)^2 = 4."""
    teacher = tiny_module(classes=3).eval()
    learnt = {"3": torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])}
    taught = {"3": torch.tensor([[[[5.0]]]])}
    hinton = HintonLoss(teacher, temperature=1.0, alpha=0.0)
    loss = HintLoss(hinton, taught, learnt, layers=[PAIR], channels=[(1, 1)], weight=0.5, device=CPU)
    found = loss(torch.zeros(1, 3), torch.tensor([0]), torch.zeros(1, 1, 8, 8))
    assert float(found) == pytest.approx(torch.tensor(3.0).log().item() + 0.5 * 4, rel=1e-6)
    assert list(loss.parameters()) == []


def test_the_regressor_learns_and_is_no_part_of_the_student():
    torch.manual_seed(0)
    teacher, student = tiny_module(classes=3).eval(), tiny_module(classes=3, width=4)
    names = set(student.state_dict())
    wanted = Hints(layers=(PAIR,), weight=10.0)
    data = noise(24)
    training = Training(epochs=8, batch_size=8, learning_rate=0.01, precision="fp32")
    with distillation_loss(wanted, teacher, student, label_smoothing=0.0) as loss:
        assert isinstance(loss, HintLoss)
        (weight, _bias) = loss.parameters()
        assert weight.shape == (16, 8, 1, 1)
        before = weight.detach().clone()
        summary = train(student, data, data.statistics, training, loss=loss, seed=0, device=CPU)
        assert not torch.equal(weight, before)
    assert np.isfinite(summary.final_loss)
    assert set(student.state_dict()) == names
