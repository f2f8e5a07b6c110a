"""Images with their labels, as a reader finds them in a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    classes: tuple[str, ...]
    train: LabelledImages
    heldout: LabelledImages | None  # None when the file has no such part
