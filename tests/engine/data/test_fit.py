"""Resizing and cropping against torchvision's own transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelpress.engine.architectures import torchvision as _declared  # noqa: F401  # before torchvision is imported
from modelpress.engine.data import fit as fit_module
from modelpress.engine.data.dataset import read_dataset
from modelpress.engine.data.fit import Fit, resized, with_channels
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.network import CropCentre, Stretch
from tests.support.archives import picture, write_zip

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    tall=st.integers(1, 90),
    wide=st.integers(1, 90),
    side=st.integers(16, 40),
    channels=st.sampled_from([1, 3]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_the_crop_is_torchvision_s(tall: int, wide: int, side: int, channels: int, interpolation: str):
    from torchvision.transforms import CenterCrop, InterpolationMode
    from torchvision.transforms import Resize as TorchvisionResize

    pixels = np.random.default_rng(tall).integers(0, 256, (tall, wide, channels), dtype=np.uint8)
    found = resized(pixels, 16, 14, CropCentre(shorter_side=side, interpolation=interpolation))  # type: ignore[arg-type]
    image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
    expected = np.asarray(
        CenterCrop((16, 14))(TorchvisionResize(side, InterpolationMode(interpolation))(image))
    ).reshape(16, 14, channels)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_stretching_is_torchvision_s(interpolation: str):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import Resize as TorchvisionResize

    found = resized(PIXELS, 20, 100, Stretch(interpolation=interpolation))  # type: ignore[arg-type]
    expected = TorchvisionResize((20, 100), InterpolationMode(interpolation))(Image.fromarray(PIXELS))
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_a_long_strip_is_refused_before_it_becomes_a_giant():
    strip = np.zeros((1, 2**20, 3), dtype=np.uint8)  # resized it would have 224 x 234,881,024 pixels
    with pytest.raises(InvalidDataset, match="1048576 x 1 pixels is too long a strip"):
        resized(strip, 224, 224, CropCentre(shorter_side=224))
    assert resized(strip, 224, 224, Stretch()).shape == (224, 224, 3)


def test_other_channels_are_resized_each_by_itself():
    four = np.concatenate([PIXELS, PIXELS[:, :, :1]], axis=2)
    found = resized(four, 20, 30, Stretch())
    np.testing.assert_array_equal(found[:, :, :3], resized(PIXELS, 20, 30, Stretch()))
    np.testing.assert_array_equal(found[:, :, 3], found[:, :, 0])


def test_grey_becomes_colour_and_colour_grey():
    grey = PIXELS[:, :, :1]
    np.testing.assert_array_equal(with_channels(grey, 3), np.concatenate([grey] * 3, axis=2))
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(with_channels(PIXELS, 1)[:, :, 0] - luma).max() <= 1
    assert with_channels(PIXELS, 4) is PIXELS


@pytest.mark.parametrize("resize", [None, Stretch(), CropCentre(shorter_side=9)])
def test_arrays_are_fitted_like_files(tmp_path: Path, resize: CropCentre | Stretch | None):
    images = np.random.default_rng(1).integers(0, 256, (12, 9, 11, 1), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(12) % 2)
    np.save(tmp_path / "data.npy", images)
    fit = Fit((3, 8, 8), resize)
    for name in ("data.npz", "data.npy"):
        data = read_dataset(tmp_path / name, seed=0, fit=fit)
        size = (9, 11) if resize is None else (8, 8)
        assert data.train_images.shape[1:] == data.heldout_images.shape[1:] == (3, *size)
    assert len(data.statistics.mean) == 3
    np.testing.assert_array_equal(fit.images(images)[3], fit.image(images[3]))


def test_what_becomes_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fit_module, "MAX_DECODED_BYTES", 10 * 64 * 64 - 1)
    with pytest.raises(InvalidDataset, match="10 images of 64 x 64 pixels are more than"):
        Fit((1, 64, 64), Stretch()).images(np.zeros((10, 4, 4, 1), dtype=np.uint8))


def test_a_set_of_many_sizes_is_inspected_and_read_by_a_policy_only(tmp_path: Path):
    files = {f"{name}/{index}.png": picture(index, size=(6 + index, 9)) for name in "ab" for index in range(3)}
    path = write_zip(tmp_path / "file", files)
    found = inspect_dataset(path)
    assert (found.image_shape, found.smallest_size, found.largest_size) == ((3, 9, 6), (9, 6), (9, 8))
    with pytest.raises(InvalidDataset, match="differ in size, from 9 x 6 to 9 x 8 pixels"):
        read_dataset(path, seed=0)
    data = read_dataset(path, seed=0, fit=Fit((3, 6, 6), CropCentre(shorter_side=8)))
    assert data.train_images.shape == (4, 3, 6, 6)
