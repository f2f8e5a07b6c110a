from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.data.batches import Batches
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


def test_an_epoch_of_a_part_of_the_images_draws_others_each_time():
    batches = make(numbered(30), epoch_images=9)
    assert len(batches) == 3
    epochs = [torch.cat([labels for _, labels in batches.epoch()]).tolist() for _ in range(40)]
    assert all(len(set(epoch)) == len(epoch) == 9 for epoch in epochs)
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 40
    assert {place for epoch in epochs for place in epoch} == set(range(30))


@pytest.mark.parametrize(("images", "epoch_images"), [(10, 10), (30, 9)])
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
def test_another_goes_on_behind_the_same_batch(taken: int, images: int, epoch_images: int):
    """Three batches an epoch; what has gone on somewhere is handed on from there as well."""
    options = {"augmentation": Augmentation(crop_padding=1, random_erasing=0.5, mixup=0.4), "classes": images}
    first, second, third = (make(numbered(images), seed, epoch_images=epoch_images, **options) for seed in (1, 2, 3))
    for _ in range(taken // 3):
        list(first.epoch())
    epoch = first.epoch()
    for _ in range(taken % 3):
        next(epoch)
    second.resume(first.snapshot())
    third.resume(second.snapshot())
    wanted = [*epoch, *first.epoch()]
    for other in (second, third):
        found = [*other.epoch(), *other.epoch()]
        assert len(found) == len(wanted) == 6 - taken % 3
        for (images, labels), (expected, answers) in zip(found, wanted, strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(labels, answers)


def test_a_place_that_is_none_is_refused():
    batches = make(numbered(10))
    with pytest.raises(UnusableCheckpoint):
        batches.resume(Snapshot({"generator": torch.zeros(10, dtype=torch.uint8)}, {"taken": 0}))
    damaged = torch.full_like(batches.snapshot().tensors["generator"], 255)
    with pytest.raises(UnusableCheckpoint):
        batches.resume(Snapshot({"generator": damaged}, {"taken": 0}))


def test_batches_are_laid_out_as_asked():
    batches = make(numbered(4))
    assert next(iter(batches.epoch()))[0].is_contiguous(memory_format=torch.channels_last)
    batches.memory_format = torch.contiguous_format
    assert next(iter(batches.epoch()))[0].is_contiguous()
    assert batches.sample().shape == (4, 3, 4, 5)
    assert make(numbered(9), epoch_images=2).sample().shape == (2, 3, 4, 5)


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


def test_an_epoch_cuts_out_a_square_of_each_image():
    batches = make(torch.full((200, 1, 5, 5), 255, dtype=torch.uint8), augmentation=Augmentation(cutout=1))
    pixels = torch.cat([images for images, _ in batches.epoch()])
    assert (pixels == 0).sum((1, 2, 3)).tolist() == [1] * 200
    assert bool((pixels == 0).any(0).all())


def test_an_epoch_erases_a_rectangle_of_about_as_many_images_as_asked():
    white = torch.full((1000, 1, 10, 12), 255, dtype=torch.uint8)
    batches = make(white, augmentation=Augmentation(random_erasing=0.3), batch_size=100)
    erased = torch.cat([images for images, _ in batches.epoch()])[:, 0] == 0  # (N, H, W)
    hit = erased.any(2).any(1)
    assert float(hit.float().mean()) == pytest.approx(0.3, abs=0.05)
    shares = erased[hit].float().mean((1, 2))
    # The sides are rounded to pixels, which is most of a small rectangle.
    assert 0.01 < float(shares.min()) < 0.05
    assert 0.35 < float(shares.max()) < 0.48
    assert float(shares.mean()) == pytest.approx(0.21, abs=0.03)


def test_mixed_images_come_with_the_shares_of_their_classes():
    """Each image is as bright as its class, so that the mean brightness tells the mixture, and the labels have to."""
    labels = torch.arange(24) % 3
    images = labels.to(torch.uint8)[:, None, None, None].expand(24, 1, 4, 4) * 100
    batches = Batches(
        images,
        labels,
        Preprocessing(mean=(0.0,), std=(1.0,)),
        Augmentation(mixup=1.0),
        batch_size=10,
        generator=torch.Generator().manual_seed(0),
        device=CPU,
        classes=4,
    )
    seen = 0
    for pixels, shares in batches.epoch():
        assert batches.origin is None
        assert batches.everything() is None
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        assert shares.shape == (len(pixels), 4)
        torch.testing.assert_close(shares.sum(1), torch.ones(len(pixels)))
        brightness = shares @ torch.tensor([0.0, 100.0, 200.0, 0.0]) / 255
        torch.testing.assert_close(pixels, brightness[:, None, None, None].expand_as(pixels))
        seen += int(((shares > 0).sum(1) == 2).sum())
    assert seen > 8  # two images of three are mixed with one of another class


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("change", [{}, {"crop_padding": 2}, {"cutout": 3}, {"random_erasing": 1.0}])
def test_a_batch_says_what_it_was_made_of(flip: bool, change: dict[str, float]):
    batches = make(numbered(10), augmentation=Augmentation.model_validate({"horizontal_flip": flip, **change}))
    pixels, labels = (torch.cat(parts) for parts in zip(*make(numbered(10)).epoch(), strict=True))
    plain = pixels[labels.argsort()]
    everyone = torch.cat([plain, plain.flip(3)])
    seen = set()
    everything = batches.everything()
    assert everything is not None
    torch.testing.assert_close(everything.plain(everything.places), everyone[: 20 if flip else 10])
    for pixels, labels in batches.epoch():
        origin = batches.origin
        assert origin is not None
        assert origin.count == (20 if flip else 10)
        assert torch.equal(origin.places % 10, labels)
        torch.testing.assert_close(origin.plain(origin.places), everyone[origin.places])
        assert origin.unchanged is (not change)
        assert torch.equal(pixels, origin.plain(origin.places)) is (not change)
        assert torch.equal(origin.part(1, 2).places, origin.places[1:2])
        seen |= set((origin.places // 10).tolist())
    assert seen == ({0, 1} if flip else {0})


def test_the_same_generator_draws_the_same_changes():
    def pixels(seed: int) -> Tensor:
        every = Augmentation(horizontal_flip=True, crop_padding=1, cutout=2, random_erasing=0.5, mixup=0.4)
        batches = make(numbered(10), seed, augmentation=every)
        return torch.cat([images for _ in range(2) for images, _ in batches.epoch()])

    assert torch.equal(pixels(1), pixels(1))
    assert not torch.equal(pixels(1), pixels(2))
