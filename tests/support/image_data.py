"""Image data for tests: scikit-learn's digits, which are real, and noise."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.data.statistics import pixel_statistics
from modelpress.spec.network import Preprocessing


def digits() -> ImageData:
    """1,797 real digits of 8 x 8 grey pixels; every fifth is held out. They come with scikit-learn."""
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, :, :, None]
    labels = bunch.target.astype(np.int64)
    heldout = np.arange(len(labels)) % 5 == 0
    return _image_data(images, labels, heldout, tuple(str(label) for label in range(10)))


def noise(
    count: int = 24, *, channels: int = 1, size: int = 8, classes: int = 3, heldout: int = 6, seed: int = 0
) -> ImageData:
    """`count` images of noise to train on, labelled in turn, and `heldout` more."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (count + heldout, size, size, channels), dtype=np.uint8)
    labels = np.arange(count + heldout) % classes
    return _image_data(images, labels, np.arange(count + heldout) >= count, tuple("abcdefghij"[:classes]))


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """What the preprocessing says, written out: (x / 255 - mean) / std."""
    mean, std = torch.tensor(preprocessing.mean)[:, None, None], torch.tensor(preprocessing.std)[:, None, None]
    return (images.float() / 255 - mean) / std


def accuracy(module: nn.Module, data: ImageData) -> float:
    """Share of held-out images that the module gets right."""
    with torch.no_grad():
        outputs = module.eval()(normalised(data.heldout_images, data.statistics))
    return float((outputs.argmax(1) == data.heldout_labels).float().mean())


def _image_data(images: np.ndarray, labels: np.ndarray, heldout: np.ndarray, classes: tuple[str, ...]) -> ImageData:
    def tensor(part: np.ndarray) -> Tensor:
        return torch.from_numpy(images[part]).permute(0, 3, 1, 2)

    return ImageData(
        train_images=tensor(~heldout),
        train_labels=torch.from_numpy(labels[~heldout]),
        heldout_images=tensor(heldout),
        heldout_labels=torch.from_numpy(labels[heldout]),
        classes=classes,
        statistics=pixel_statistics(images[~heldout]),
    )
