"""Images with their labels, as a reader finds them in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelpress.spec.inspection import DatasetLayout

# The label of an image that has none.
UNLABELLED = -1


@dataclass(frozen=True)
class LabelledImages:
    """One part of a data set."""

    images: NDArray[np.uint8]  # (N, H, W, C)
    labels: NDArray[np.int64]  # (N,), index into the classes; UNLABELLED where there is none

    def take(self, chosen: NDArray[np.bool_]) -> LabelledImages:
        """The images where `chosen` (N,) is true, in their order."""
        return LabelledImages(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class SizeRange:
    """Between which heights and widths images lie."""

    smallest: tuple[int, int] = (0, 0)  # least height and least width, not of the same image; 0 before the first image
    largest: tuple[int, int] = (0, 0)

    @property
    def differ(self) -> bool:
        """Are there images of two sizes?"""
        return self.smallest != self.largest

    def including(self, height: int, width: int) -> SizeRange:
        """The range with one more image."""
        if self.largest == (0, 0):
            return SizeRange((height, width), (height, width))
        return SizeRange(
            (min(self.smallest[0], height), min(self.smallest[1], width)),
            (max(self.largest[0], height), max(self.largest[1], width)),
        )


@dataclass(frozen=True)
class DatasetContent:
    """What a file holds."""

    layout: DatasetLayout
    classes: tuple[str, ...]  # empty when no image has a label
    train: LabelledImages
    heldout: LabelledImages | None  # None when the file has no such part
    unused: int = 0  # images of a validation part that stands beside a test part
    sizes: SizeRange | None = None  # where the images of the file differ in size, and were stretched to one

    @classmethod
    def parted(
        cls,
        layout: DatasetLayout,
        classes: tuple[str, ...],
        whole: LabelledImages,
        heldout: NDArray[np.bool_],
        *,
        unused: int = 0,
        sizes: SizeRange | None = None,
    ) -> DatasetContent:
        """All images of a file, of which those where `heldout` (N,) is true are its held-out part, if there are any."""
        if not heldout.any():
            return cls(layout, classes, whole, None, unused, sizes)
        return cls(layout, classes, whole.take(~heldout), whole.take(heldout), unused, sizes)

    def fitted(self, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> DatasetContent:
        """The same with the images (N, H, W, C) of both parts changed."""
        train = replace(self.train, images=change(self.train.images))
        heldout = None if self.heldout is None else replace(self.heldout, images=change(self.heldout.images))
        return replace(self, train=train, heldout=heldout)
