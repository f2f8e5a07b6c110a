"""The bound on what building a network may allocate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.engine.architectures.budget import Budget, TooLargeError


def test_counts_what_a_layer_allocates() -> None:
    with Budget() as budget:
        nn.Linear(30, 20)
    assert budget.elements == 30 * 20 + 20
    assert budget.tensors == 2


def test_refuses_before_the_memory_is_taken() -> None:
    # 4 TB: taking it would fail with torch's own error.
    with pytest.raises(TooLargeError, match="1,000,000,000 parameters"), Budget():
        nn.Linear(1_000_000, 1_000_000)


def test_refuses_too_many_tensors() -> None:
    with pytest.raises(TooLargeError, match="more than 10 weight tensors"), Budget(most_tensors=10):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(6)))


def test_is_over_when_it_is_left() -> None:
    with Budget(most_elements=10):
        torch.zeros(10)
    assert torch.zeros(11).numel() == 11
