"""A data set in memory: images and labels as tensors, with a part held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelpress.engine.data.fit import Fit
from modelpress.engine.data.labelled import UNLABELLED, LabelledImages
from modelpress.engine.data.registry import read_file
from modelpress.engine.data.statistics import pixel_statistics
from modelpress.spec.failure import IncompatibleSpec, InvalidDataset
from modelpress.spec.network import Preprocessing

_APART_SEED = 0


@dataclass(frozen=True)
class ImageData:
    """Images to train on and images to measure with."""

    train_images: Tensor  # uint8 (N, C, H, W), channels last in memory
    train_labels: Tensor  # int64 (N,), UNLABELLED (-1) where there is none
    heldout_images: Tensor
    heldout_labels: Tensor
    classes: tuple[str, ...]  # names by label; empty when no image has one
    statistics: Preprocessing  # of the training pixels

    @property
    def unlabelled(self) -> int:
        """How many of the training images have no label."""
        return int((self.train_labels == UNLABELLED).sum())

    def labelled(self) -> ImageData:
        """The same without the training images that have no label."""
        if self.unlabelled == 0:
            return self
        chosen = self.train_labels != UNLABELLED
        return replace(self, train_images=self.train_images[chosen], train_labels=self.train_labels[chosen])

    def keep_apart(self, share: float) -> tuple[ImageData, Tensor, Tensor]:
        """Take `share` of each class from the training images: the rest, and those with their labels.

        At least one image of each class that has two. Always the same ones, so that no training of a job has learned
        what a later one validates by. Raises IncompatibleSpec when no class has two.
        """
        apart = torch.from_numpy(_draw_by_class(self.train_labels.numpy(), _APART_SEED, share))
        if not bool(apart.any()):
            raise IncompatibleSpec(
                "no class has two labelled training images, so none can be kept apart: drop `validation`, or add images"
            )
        rest = replace(self, train_images=self.train_images[~apart], train_labels=self.train_labels[~apart])
        return rest, self.train_images[apart], self.train_labels[apart]


def read_dataset(path: Path, seed: int, heldout_share: float = 0.1, fit: Fit | None = None) -> ImageData:
    """Read a data set's file, whose format is told by its content.

    Where the file has no held-out part, `heldout_share` of each class is drawn by `seed`, at least one image of
    each class that has two; images without a label are all to train with, unless no image has one: then they are drawn
    like those of one class. Images are brought to what `fit` says; without it they must be of one size. Raises
    InvalidDataset.
    """
    file = read_file(path, fit)
    if file.sizes is not None:
        raise InvalidDataset(
            f"images differ in size, from {_by(file.sizes.smallest)} to {_by(file.sizes.largest)} pixels (height x "
            "width), and nothing says to which they are brought; resize them all"
        )
    train, heldout = file.train, file.heldout
    if heldout is None:
        train, heldout = _split(train, seed, heldout_share)
    return ImageData(
        train_images=_as_tensor(train.images),
        train_labels=torch.from_numpy(train.labels),
        heldout_images=_as_tensor(heldout.images),
        heldout_labels=torch.from_numpy(heldout.labels),
        classes=file.classes,
        statistics=pixel_statistics(train.images),
    )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _as_tensor(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _split(whole: LabelledImages, seed: int, share: float) -> tuple[LabelledImages, LabelledImages]:
    without_labels = bool((whole.labels == UNLABELLED).all())
    chosen = _draw_by_class(np.zeros_like(whole.labels) if without_labels else whole.labels, seed, share)
    if without_labels and not chosen.any():
        raise InvalidDataset("there is a single image, so none can be held out to measure with; add images")
    if not chosen.any():
        raise InvalidDataset(
            "every class has a single image, so none can be held out to measure with; add images, or a held-out part"
        )
    return whole.take(~chosen), whole.take(chosen)


def _draw_by_class(labels: NDArray[np.int64], seed: int, share: float) -> NDArray[np.bool_]:
    """Which images (N,) are drawn: `share` of each class, one at least, but never the last one of a class."""
    draw = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[labels != UNLABELLED]):
        places = np.flatnonzero(labels == label)
        count = min(len(places) - 1, max(1, round(share * len(places))))
        chosen[draw.permutation(places)[:count]] = True
    return chosen
