from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelpress.engine.data.batches import Batches, augment, cut_out
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation

CPU = torch.device("cpu")


def numbered(count: int, channels: int = 3, height: int = 4, width: int = 5) -> Tensor:
    """Images that are told apart by their first pixel."""
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    )
    images[:, 0, 0, 0] = torch.arange(count, dtype=torch.uint8)
    return images


def make(images: Tensor, seed: int = 0, *, augmentation: Augmentation | None = None, **options: int | bool) -> Batches:
    channels = images.shape[1]
    return Batches(
        images,
        torch.arange(len(images)),
        Preprocessing(mean=(0.5, 0.25, 0.1)[:channels], std=(0.2, 0.5, 1.0)[:channels]),
        augmentation or Augmentation(),
        generator=torch.Generator().manual_seed(seed),
        device=CPU,
        **{"batch_size": 4, **options},  # type: ignore[arg-type]  # a test's shorthand
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_once_normalised_and_with_its_own_label(channels: int):
    images = numbered(10, channels)
    batches = make(images)
    assert len(batches) == 3
    parts = list(batches.epoch())
    assert [len(labels) for _, labels in parts] == [4, 4, 2]
    pixels, labels = torch.cat([image for image, _ in parts]), torch.cat([label for _, label in parts])
    assert sorted(labels.tolist()) == list(range(10))
    mean = torch.tensor([0.5, 0.25, 0.1])[:channels, None, None]
    std = torch.tensor([0.2, 0.5, 1.0])[:channels, None, None]
    torch.testing.assert_close(pixels, (images[labels].float() / 255 - mean) / std, rtol=1e-5, atol=1e-6)


def test_order_follows_the_generator_and_changes_by_epoch():
    def orders(seed: int) -> list[list[int]]:
        batches = make(numbered(10), seed)
        return [torch.cat([labels for _, labels in batches.epoch()]).tolist() for _ in range(2)]

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
    assert orders(1)[0] != orders(1)[1]


def test_batches_are_laid_out_as_asked():
    batches = make(numbered(4))
    assert next(iter(batches.epoch()))[0].is_contiguous(memory_format=torch.channels_last)
    batches.memory_format = torch.contiguous_format
    assert next(iter(batches.epoch()))[0].is_contiguous()
    assert batches.sample().shape == (4, 3, 4, 5)


@pytest.mark.parametrize(("count", "drop_single", "used"), [(9, True, 8), (9, False, 9), (10, True, 10), (1, True, 1)])
def test_a_last_single_image_is_dropped_on_demand(count: int, drop_single: bool, used: int):
    batches = make(numbered(count), drop_single=drop_single)
    assert sum(len(labels) for _, labels in batches.epoch()) == used
    assert len(batches) == -(-used // 4)


def test_preprocessing_of_other_channels_is_refused():
    with pytest.raises(IncompatibleSpec, match="1 means and 1 standard deviations, the images have 3 channels"):
        Batches(
            numbered(2),
            torch.arange(2),
            Preprocessing(mean=(0.5,), std=(0.5,)),
            Augmentation(),
            batch_size=2,
            generator=torch.Generator(),
            device=CPU,
        )


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    padding=st.integers(0, 4),
    seed=st.integers(0, 10**6),
    flip=st.booleans(),
)
def test_augment_against_one_image_at_a_time(
    channels: int, height: int, width: int, padding: int, seed: int, flip: bool
):
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (5, height, width, channels), dtype=np.uint8)
    shifts = draw.integers(0, 2 * padding + 1, (2, 5))
    mirrored = draw.random(5) < 0.5
    result = augment(
        torch.from_numpy(images),
        shifts=torch.from_numpy(shifts) if padding else None,
        mirrored=torch.from_numpy(mirrored) if flip else None,
        padding=padding,
    )
    for index, image in enumerate(images):
        y, x = shifts[:, index]
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        expected = padded[y : y + height, x : x + width]
        if flip and mirrored[index]:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(result[index].numpy(), expected)


def test_an_epoch_draws_crops_and_mirrors_over_all_their_range():
    """A single bright pixel in the middle of 3 x 3 shows where each image went."""
    images = torch.zeros(2000, 1, 3, 3, dtype=torch.uint8)
    images[:, 0, 1, 0] = 255
    batches = make(images, augmentation=Augmentation(horizontal_flip=True, crop_padding=1), batch_size=2000)
    pixels, _ = next(iter(batches.epoch()))
    share = (pixels[:, 0] > pixels.min()).float().mean(0)
    # Rows are equally likely. The column moves from 0 to 1, 0 or out of the image, and half of the images are mirrored.
    expected = torch.tensor([[1 / 6, 1 / 3, 1 / 6]] * 3) / 3
    torch.testing.assert_close(share, expected, rtol=0, atol=0.03)


def test_cutout_by_hand():
    """A square of 2 around the middle, and one of which a corner alone lies inside."""
    images = torch.ones(2, 1, 3, 3)
    cut_out(images, torch.tensor([[1, 0], [1, 0]]), 2)
    assert images[0, 0].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert images[1, 0].tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_an_epoch_cuts_out_a_square_of_each_image():
    batches = make(torch.full((200, 1, 5, 5), 255, dtype=torch.uint8), augmentation=Augmentation(cutout=1))
    pixels = torch.cat([images for images, _ in batches.epoch()])
    assert (pixels == 0).sum((1, 2, 3)).tolist() == [1] * 200
    assert bool((pixels == 0).any(0).all())
