from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modelpress.engine import arithmetic
from modelpress.engine.arithmetic import Arithmetic, choose_arithmetic, lay_out
from modelpress.engine.distill.hinton import HintonLoss
from tests.support.tiny import tiny_module


def test_a_trial_leaves_no_trace():
    module = nn.Sequential(tiny_module(), nn.Dropout(0.5))
    module.train()
    images = torch.randn(8, 1, 8, 8)
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    choose_arithmetic(module, images, precision="auto", steps=1000)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training


def choose_with(monkeypatch: pytest.MonkeyPatch, seconds: dict[Arithmetic, float], **options: object) -> Arithmetic:
    """The choice where candidates take so long: timing noise has no place in a test."""
    monkeypatch.setattr(arithmetic, "_time_pass", lambda module, images, candidate: seconds[candidate])
    choice = {"precision": "auto", "steps": 1000, **options}
    return choose_arithmetic(tiny_module(), torch.randn(8, 1, 8, 8), **choice)  # type: ignore[arg-type]  # a test's shorthand


FP32 = Arithmetic("fp32", channels_last=True)
PLAIN = Arithmetic("fp32", channels_last=False)
BF16 = Arithmetic("bf16", channels_last=True)
PLAIN_BF16 = Arithmetic("bf16", channels_last=False)


def test_the_faster_one_is_chosen(monkeypatch: pytest.MonkeyPatch):
    assert choose_with(monkeypatch, {FP32: 1.0, BF16: 0.6, PLAIN: 0.8}) == BF16
    assert choose_with(monkeypatch, {FP32: 1.0, BF16: 1.6, PLAIN: 0.8}) == PLAIN


def test_a_small_difference_is_noise(monkeypatch: pytest.MonkeyPatch):
    assert choose_with(monkeypatch, {FP32: 1.0, BF16: 0.95, PLAIN: 0.97}) == FP32


def test_a_precision_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch):
    seconds = {FP32: 9.0, BF16: 9.0, PLAIN: 1.0, PLAIN_BF16: 1.0}
    assert choose_with(monkeypatch, seconds, precision="bf16") == PLAIN_BF16
    assert choose_with(monkeypatch, seconds, precision="fp32") == PLAIN
    assert choose_with(monkeypatch, seconds, precision="bf16", steps=3) == BF16


def test_short_trainings_are_not_tried(monkeypatch: pytest.MonkeyPatch):
    assert choose_with(monkeypatch, {}, steps=10) == FP32


def test_what_a_network_cannot_be_computed_in_is_not_chosen(monkeypatch: pytest.MonkeyPatch):
    error = RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")

    def time_pass(_module: nn.Module, _images: torch.Tensor, candidate: Arithmetic) -> float:
        if candidate in broken:
            raise error
        return {FP32: 1.0, BF16: 0.1, PLAIN: 0.5}[candidate]

    monkeypatch.setattr(arithmetic, "_time_pass", time_pass)

    def choose() -> Arithmetic:
        return choose_arithmetic(tiny_module(), torch.randn(8, 1, 8, 8), precision="auto", steps=1000)

    broken = {BF16}
    assert choose() == PLAIN
    broken = {BF16, PLAIN}
    assert choose() == FP32
    broken = {FP32}
    with pytest.raises(RuntimeError, match="scatter"):
        choose()
    broken, error = {BF16}, torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        choose()


class Scattered(nn.Module):
    """Writes what it computes into a tensor of fp32, as autocast does not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.layer(images).flatten(1)
        index = torch.arange(4).expand(len(scores), -1)
        return torch.zeros(scores.shape).scatter(1, index, scores)


def test_a_real_one_that_cannot_be_computed_in_bf16():
    found = choose_arithmetic(Scattered(), torch.randn(8, 1, 8, 8), precision="auto", steps=1000)
    assert found.precision == "fp32"


def test_a_teacher_that_cannot_be_computed_in_bf16(monkeypatch: pytest.MonkeyPatch):
    def time_pass(_module: nn.Module, _images: torch.Tensor, candidate: Arithmetic) -> float:
        return {FP32: 1.0, BF16: 0.1, PLAIN: 0.5}[candidate]

    monkeypatch.setattr(arithmetic, "_time_pass", time_pass)
    images, module = torch.randn(8, 1, 8, 8), tiny_module()
    for teacher, found in ((tiny_module(), BF16), (Scattered(), PLAIN)):
        teachers = tuple(HintonLoss(teacher.eval(), temperature=4.0, alpha=0.5).teachers())
        assert choose_arithmetic(module, images, precision="auto", steps=1000, teachers=teachers) == found


def test_layout_changes_no_value():
    module = tiny_module()
    before = copy.deepcopy(module.state_dict())
    lay_out(module, torch.channels_last)
    assert module[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
