"""Mean and standard deviation of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelpress.spec.network import Preprocessing

_IMAGES_AT_ONCE = 1024


def pixel_statistics(images: NDArray[np.uint8]) -> Preprocessing:
    """Mean and standard deviation per channel of uint8 images (N, H, W, C), on the scale 0..1.

    Counted, not summed: a histogram of 256 values is exact and needs no floating-point copy of the images. A channel
    that is the same everywhere gets the standard deviation 1, so that dividing by it is harmless.
    """
    channels = images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for begin in range(0, len(images), _IMAGES_AT_ONCE):
        block = images[begin : begin + _IMAGES_AT_ONCE]
        for channel in range(channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = (counts * (values[None, :] - mean[:, None]) ** 2).sum(axis=1) / total
    std = np.sqrt(variance)
    return Preprocessing(
        mean=tuple(float(value) for value in mean),
        # Counted, as rounding makes something of the variance of equal values.
        std=tuple(
            float(value) if kinds > 1 else 1.0
            for value, kinds in zip(std, np.count_nonzero(counts, axis=1), strict=True)
        ),
    )
