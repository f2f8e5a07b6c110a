from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from modelpress.engine.data.dataset import ImageData, read_dataset
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.data.statistics import pixel_statistics
from modelpress.spec.failure import IncompatibleSpec, InvalidDataset
from tests.support.archives import picture, write_tar, write_zip

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0] * 25 + [1] * 10 + [2] * 4 + [3])


def save(path: Path, **arrays: object) -> Path:
    np.savez(path / "data.npz", **{"images": IMAGES, "labels": LABELS, **arrays})  # type: ignore[arg-type]
    return path / "data.npz"


def test_a_tenth_of_each_class_is_held_out(tmp_path: Path):
    data = read_dataset(save(tmp_path), seed=0)
    assert torch.bincount(data.heldout_labels, minlength=4).tolist() == [2, 1, 1, 0]
    assert torch.bincount(data.train_labels, minlength=4).tolist() == [23, 9, 3, 1]
    assert data.train_images.shape == (36, 3, 5, 4)
    assert data.train_images.dtype == torch.uint8
    # Nothing is lost or doubled, and each image keeps its label.
    together = torch.cat([data.train_images, data.heldout_images]).permute(0, 2, 3, 1).numpy()
    labels = torch.cat([data.train_labels, data.heldout_labels]).tolist()
    assert sorted((image.tobytes(), label) for image, label in zip(together, labels, strict=True)) == sorted(
        (image.tobytes(), label) for image, label in zip(IMAGES, LABELS.tolist(), strict=True)
    )


def test_the_split_follows_the_seed(tmp_path: Path):
    path = save(tmp_path)
    assert torch.equal(read_dataset(path, 1).heldout_images, read_dataset(path, 1).heldout_images)
    assert not torch.equal(read_dataset(path, 1).heldout_images, read_dataset(path, 2).heldout_images)


def test_the_share_can_be_chosen(tmp_path: Path):
    data = read_dataset(save(tmp_path), seed=0, heldout_share=0.5)
    assert torch.bincount(data.heldout_labels, minlength=4).tolist() == [12, 5, 2, 0]


def test_a_given_part_is_taken(tmp_path: Path):
    data = read_dataset(save(tmp_path, test_images=IMAGES[:3], test_labels=LABELS[:3]), seed=0)
    assert len(data.train_labels) == 40
    np.testing.assert_array_equal(data.heldout_images.permute(0, 2, 3, 1).numpy(), IMAGES[:3])


def with_labels(labels: list[int]) -> ImageData:
    """Images that are told apart by their only pixel."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None]
    statistics = pixel_statistics(images.permute(0, 2, 3, 1).numpy())
    return ImageData(images, torch.tensor(labels), images[:1], torch.tensor([0]), ("a", "b", "c"), statistics)


def test_images_kept_apart_are_a_share_of_each_class_and_no_unlabelled_ones():
    data = with_labels([0] * 20 + [-1] * 20 + [1] * 10 + [2])
    rest, images, labels = data.keep_apart(0.2)
    assert labels.tolist() == [0] * 4 + [1] * 2
    assert torch.equal(data.train_labels[images.flatten().long()], labels)
    assert sorted(torch.cat([rest.train_images, images]).flatten().tolist()) == list(range(51))
    assert torch.equal(data.train_labels[rest.train_images.flatten().long()], rest.train_labels)
    assert torch.equal(data.keep_apart(0.2)[1], images)


@pytest.mark.parametrize("labels", [[-1, -1], [0, 1, -1, 2]])
def test_nothing_to_keep_apart(labels: list[int]):
    with pytest.raises(IncompatibleSpec, match="drop `validation`"):
        with_labels(labels).keep_apart(0.1)


def test_statistics_are_those_of_the_training_pixels(tmp_path: Path):
    data = read_dataset(save(tmp_path), seed=0)
    pixels = data.train_images.double() / 255
    assert data.statistics.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.statistics.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_a_constant_channel_can_be_divided_by():
    images = np.full((2, 3, 3, 2), 51, dtype=np.uint8)
    images[0, :, :, 1] = 153
    statistics = pixel_statistics(images)
    assert statistics.mean == pytest.approx((0.2, 0.4))
    assert statistics.std == pytest.approx((1.0, 0.2))


def test_nothing_to_hold_out(tmp_path: Path):
    with pytest.raises(InvalidDataset, match="every class has a single image"):
        read_dataset(save(tmp_path, images=IMAGES[:2], labels=np.array([0, 1])), seed=0)


def test_zip_and_tar_of_the_same_files_are_the_same_data(tmp_path: Path):
    files = {f"{name}/{index}.png": picture(index) for name in "ab" for index in range(5)}
    zipped = read_dataset(write_zip(tmp_path / "a", files), seed=3)
    tarred = read_dataset(write_tar(tmp_path / "b", dict(reversed(files.items()))), seed=3)
    assert torch.equal(zipped.train_images, tarred.train_images)
    assert torch.equal(zipped.heldout_images, tarred.heldout_images)
    assert zipped.classes == tarred.classes


def test_inspection(tmp_path: Path):
    found = inspect_dataset(save(tmp_path, test_images=IMAGES[:3], test_labels=LABELS[:3]))
    assert (found.format, found.train_examples, found.heldout_examples) == ("npz", 40, 3)
    assert found.classes == ("0", "1", "2", "3")
    assert found.image_shape == (3, 5, 4)
    assert found.statistics.mean == pytest.approx((IMAGES / 255).mean((0, 1, 2)).tolist())


def test_inspection_without_a_held_out_part(tmp_path: Path):
    files = {f"{name}/{index}.png": picture(index, mode="L") for name in "ab" for index in range(5)}
    found = inspect_dataset(write_tar(tmp_path / "file", files))
    assert (found.format, found.train_examples, found.heldout_examples) == ("tar", 10, None)
    assert found.image_shape == (1, 5, 6)


@pytest.mark.slow
@pytest.mark.skipif("MODELPRESS_DATA" not in os.environ, reason="MODELPRESS_DATA is unset: no CIFAR-10")
def test_cifar10():
    found = inspect_dataset(Path(os.environ["MODELPRESS_DATA"]) / "cifar10-test.zip")
    assert (found.format, found.train_examples, found.heldout_examples) == ("zip", 10_000, None)
    assert found.classes[0] == "airplane"
    assert found.image_shape == (3, 32, 32)
    # Published for the lossless images (0.4942, 0.4851, 0.4504 of the test part); the JPEG edition lies within 0.01.
    assert found.statistics.mean == pytest.approx((0.4942, 0.4851, 0.4504), abs=0.01)


@pytest.mark.parametrize("value", [0, 51, 255])
def test_a_channel_of_one_value_has_the_deviation_one(value: int):
    """12 x 0.2 / 12 is not 0.2, and what rounding leaves is no deviation."""
    assert pixel_statistics(np.full((3, 2, 2, 1), value, np.uint8)).std == (1.0,)
