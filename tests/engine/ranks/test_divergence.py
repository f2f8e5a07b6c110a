from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.distill.hinton import LabelLoss
from modelpress.engine.training import train
from modelpress.spec.failure import Diverged
from modelpress.spec.training import Training
from tests.support.followers import CPU, leading
from tests.support.image_data import noise


@pytest.mark.slow
def test_divergence_is_told_by_the_leader_whoever_meets_it(tmp_path: Path):
    """The image that makes the loss infinite is the follower's: the second of a batch of two."""
    data = noise(2, heldout=2)
    data = replace(data, train_images=torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    module = nn.Sequential(nn.Flatten(), Exploding())
    with pytest.raises(Diverged, match="the loss became infinite"), leading(tmp_path) as leader:
        # An error in a training ends the job: this context kills what follows.
        train(
            module,
            data,
            data.statistics,
            Training(epochs=1, batch_size=2, learning_rate=1e-3),
            loss=LabelLoss(),
            seed=order_with_the_bright_image_last(),
            device=CPU,
            ranks=leader,
        )


class Exploding(nn.Module):
    """Class scores that are infinite for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels: Tensor) -> Tensor:  # (B, 64) to (B, 3)
        bright = pixels.mean(1, keepdim=True) > 0
        return torch.where(bright, torch.inf, self.scale) * torch.tensor([1.0, 2.0, 3.0])


def order_with_the_bright_image_last() -> int:
    return next(seed for seed in range(100) if torch.randperm(2, generator=torch.Generator().manual_seed(seed))[1] == 1)
