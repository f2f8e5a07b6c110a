"""Images with their labels, as a reader finds them in a file."""

from __future__ import annotations

from dataclasses import dataclass

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
class DatasetContent:
    """What a file holds."""

    layout: DatasetLayout
    classes: tuple[str, ...]  # empty when no image has a label
    train: LabelledImages
    heldout: LabelledImages | None  # None when the file has no such part
    unused: int = 0  # images of a validation part that stands beside a test part

    @classmethod
    def parted(
        cls,
        layout: DatasetLayout,
        classes: tuple[str, ...],
        whole: LabelledImages,
        heldout: NDArray[np.bool_],
        unused: int = 0,
    ) -> DatasetContent:
        """All images of a file, of which those where `heldout` (N,) is true are its held-out part, if there are any."""
        if not heldout.any():
            return cls(layout, classes, whole, None, unused)
        return cls(layout, classes, whole.take(~heldout), whole.take(heldout), unused)
