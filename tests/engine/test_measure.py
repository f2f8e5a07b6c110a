"""Figures against closed forms, and against a second, slower way of getting them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.measure import (
    accuracy_of,
    agreement_of,
    count_macs,
    count_nonzero,
    count_parameters,
    evaluate,
    normalise,
)
from modelpress.spec.failure import Diverged
from modelpress.spec.network import Preprocessing

ROOT = Path(__file__).parents[2]

PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_parameters_are_counted_whether_they_train_or_not() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    module[0].weight.requires_grad = False
    assert count_parameters(module) == (3 * 8 * 25 + 8) + 2 * 8 + (8 * 2 + 2)


def test_a_shared_parameter_is_counted_once() -> None:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    assert count_parameters(nn.Sequential(first, second)) == 16


def test_nonzero_is_exact() -> None:
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.fill_(1e-38)
        layer.weight[0] = 0.0
        layer.weight[1, 0] = -0.0
        layer.bias.zero_()
    assert count_nonzero(layer) == 4 * 3 - 4 - 1


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 5), (3, 32, 32), 8 * 3 * 25 * 28 * 28),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), (4, 9, 7), 8 * 4 * 9 * 5 * 4),
        (nn.Conv2d(8, 8, 3, groups=8), (8, 6, 6), 8 * 9 * 4 * 4),
        (nn.Conv1d(3, 5, 4), (3, 10), 5 * 3 * 4 * 7),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), (3, 2, 2), 12 * 7),
    ],
)
def test_macs_are_those_of_the_closed_form(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_macs(layer, shape) == macs


def test_macs_of_attention_are_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    tokens, width = 10, 16
    # Query, key, value and output projections; scores and their weighted sum.
    assert count_macs(Attention(), (tokens, width)) == 4 * tokens * width**2 + 2 * tokens**2 * width


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_macs_of_recurrent_layers_are_counted(kind: type[nn.RNNBase], gates: int, batch_first: bool) -> None:
    inputs, units, steps = 5, 7, 11

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = kind(inputs, units, num_layers=2, bidirectional=True, batch_first=batch_first)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.layers(rows if batch_first else rows.transpose(0, 1))[0]

    # The second layer takes both directions of the first.
    first, second = inputs + units, 2 * units + units
    assert count_macs(Rows(), (steps, inputs)) == 2 * steps * gates * units * (first + second)


def test_counting_macs_changes_nothing() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_macs(module, (3, 8, 8))
    assert [layer.training for layer in module] == [True, True, False]
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_mode_comes_back_after_an_error() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Linear(4, 2))
    module[0].eval()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count_macs(module, (5,))
    assert [layer.training for layer in module.modules()] == [True, False, True]


def test_normalise_by_hand() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    values = normalise(images, Preprocessing(mean=(0.5, 0.5, 0.1), std=(0.5, 0.25, 0.1))).flatten()
    assert values.tolist() == pytest.approx([-1.0, 2.0, 1.0])


def test_accuracy_of_outputs_made_by_hand() -> None:
    outputs = torch.zeros(4, 10)
    outputs[0, 3] = 1.0  # right
    outputs[1, [0, 1, 2, 4, 5]] = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0])  # the label 5 is fifth
    outputs[2, [0, 1, 2, 4, 5]] = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0])  # the label 9 is not among the five
    outputs[3, 7] = 1.0  # right
    labels = torch.tensor([3, 5, 9, 7])
    accuracy = accuracy_of(outputs, labels)
    assert (accuracy.top1, accuracy.top5, accuracy.examples) == (0.5, 0.75, 4)
    rows = outputs.tolist()
    expected = [
        math.log(sum(math.exp(value) for value in row)) - row[label]
        for row, label in zip(rows, labels.tolist(), strict=True)
    ]
    assert accuracy.loss == pytest.approx(sum(expected) / 4)


def test_top5_of_few_classes_is_all() -> None:
    assert accuracy_of(torch.eye(3), torch.tensor([1, 2, 0])).top5 == 1.0
    assert accuracy_of(torch.eye(3), torch.tensor([1, 2, 0])).top1 == 0.0


def test_evaluation_in_batches_is_that_of_all_at_once() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(), nn.Flatten(), nn.Linear(6 * 36, 4))
    images = torch.randint(0, 256, (515, 3, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, 4, (515,))
    preprocessing = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    accuracy = evaluate(module, images, labels, preprocessing)
    assert module.training
    module.eval()
    with torch.no_grad():
        outputs = module(normalise(images, preprocessing))
    assert accuracy.top1 == pytest.approx(float((outputs.argmax(1) == labels).float().mean()))
    assert accuracy.loss == pytest.approx(float(nn.functional.cross_entropy(outputs, labels)), rel=1e-5)
    assert accuracy.examples == 515


def test_outputs_that_are_not_numbers_are_refused() -> None:
    outputs = torch.zeros(3, 2)
    outputs[1, 0] = float("nan")
    with pytest.raises(Diverged, match="1 of 3 held-out images"):
        accuracy_of(outputs, torch.zeros(3, dtype=torch.int64))


def test_peak_memory_sees_an_allocation() -> None:
    # In a fresh process: in this one, memory that earlier tests have freed could serve the allocation.
    script = """
import numpy as np
from modelpress.engine.measure import peak_memory, reset_peak_memory
larger = np.ones(128 * 2**20, dtype=np.uint8)
del larger
reset_peak_memory()
before = peak_memory()
block = np.ones(64 * 2**20, dtype=np.uint8)
print(peak_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert 48 * 2**20 < int(done.stdout) < 96 * 2**20


def test_agreement_against_numpy():
    draw = np.random.default_rng(5)
    original, outputs = draw.normal(size=(7, 4)), draw.normal(size=(7, 4))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (original, outputs))
    found = agreement_of(torch.from_numpy(original), torch.from_numpy(outputs))
    assert found.kl == pytest.approx(np.mean([sum(a * np.log(a / b)) for a, b in zip(p, q, strict=True)]))
    assert found.top1 == np.mean(original.argmax(1) == outputs.argmax(1))
    assert found.examples == 7


def test_agreement_by_hand():
    """Probabilities (1/2, 1/2) and (3/4, 1/4): KL = ln 2 - ln 3 / 2."""
    original, outputs = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])
    assert agreement_of(original, outputs).kl == pytest.approx(math.log(2) - math.log(3) / 2)
    assert agreement_of(outputs, outputs).kl == 0
    assert agreement_of(outputs, outputs.flip(1)).top1 == 0
