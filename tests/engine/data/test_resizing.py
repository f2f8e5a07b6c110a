"""Smaller images for the first part of a training: their pixels, their time, and networks that cannot take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from modelpress.engine.data.resizing import check_takes_smaller, resize
from modelpress.engine.distill.hinton import LabelLoss
from modelpress.engine.ranks.leader import ALONE, Ranks
from modelpress.engine.training import train
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.training import Augmentation, ProgressiveResizing, Training
from tests.support.followers import CPU, leading
from tests.support.image_data import noise

DATA = noise(20)  # 8 x 8
RESIZING = ProgressiveResizing(scale=0.75, until=0.5)
TRAINING = Training(
    epochs=4, batch_size=8, learning_rate=0.05, progressive_resizing=RESIZING, augmentation=Augmentation(crop_padding=1)
)


class Watched(nn.Module):
    """Takes images of any size, and remembers which it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(1, 4, 3, padding=1)
            self.last = nn.Linear(4, 3)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(tuple(images.shape[2:]))
        logits: Tensor = self.last(self.convolution(images).relu().amax((2, 3)))
        return logits


def trained(ranks: Ranks = ALONE) -> Watched:
    module = Watched()
    train(module, DATA, DATA.statistics, TRAINING, loss=LabelLoss(), seed=0, device=CPU, ranks=ranks)
    return module


def test_the_first_part_of_a_training_has_smaller_images():
    assert trained().sizes == [(6, 6)] * 6 + [(8, 8)] * 6


def test_several_ranks_see_the_same_sizes(tmp_path: Path):
    alone = trained()
    with leading(tmp_path, 2) as ranks:
        shared = trained(ranks)
    assert shared.sizes == alone.sizes
    for one, other in zip(alone.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_smaller_images_are_those_of_an_independent_implementation():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40), dtype=np.uint8)
    images = torch.from_numpy(pixels)[None, None].float().expand(2, 3, 32, 40)
    found = resize(images.contiguous(memory_format=torch.channels_last), TRAINING, 0, 10)
    expected = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((30, 24), Image.Resampling.BILINEAR))
    assert found.shape == (2, 3, 24, 30)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found[1, 2].numpy(), expected, atol=0.01)


@pytest.mark.parametrize(("step", "side"), [(0, 6), (4, 6), (5, 8), (9, 8)])
def test_the_size_follows_the_step(step: int, side: int):
    assert resize(torch.zeros(1, 1, 8, 8), TRAINING, step, 10).shape[2:] == (side, side)


def test_a_training_without_it_keeps_its_images():
    images = torch.zeros(1, 1, 8, 8)
    assert resize(images, Training(), 0, 10) is images


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        nn.Sequential(nn.MaxPool2d(8), nn.Flatten(), nn.Linear(1, 3)),
        nn.Sequential(nn.MaxPool2d(2), nn.Unflatten(1, (1, 1)), nn.Flatten(0), nn.Unflatten(0, (-1, 3))),
    ],
    ids=["flat", "pooled to nothing", "other images"],
)
def test_a_network_of_one_size_is_refused(module: nn.Module):
    module.train()
    with pytest.raises(IncompatibleSpec, match=r"cannot take images of 1 x 6 x 6 .* raise its `scale`, or drop it"):
        check_takes_smaller(module, torch.zeros(8, 1, 8, 8), TRAINING)
    assert module.training
    check_takes_smaller(module, torch.zeros(8, 1, 8, 8), Training())
