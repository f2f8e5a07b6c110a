"""Images brought to what a network takes: its channels, and its size where the preprocessing says how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_RESIZED_PIXELS
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.network import CropCentre, Resize

Pixels = NDArray[np.uint8]  # (H, W, C)

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_GREY, _COLOUR = 1, 3


@dataclass(frozen=True)
class Fit:
    """What is done to each image of a data set while it is read."""

    shape: tuple[int, int, int]  # channels, height, width of the network's input
    resize: Resize | None = None

    def image(self, pixels: Pixels) -> Pixels:
        """One image (H, W, C). Without `resize` it keeps its size, which `check` then holds against the input's."""
        channels, height, width = self.shape
        if self.resize is not None:
            pixels = resized(pixels, height, width, self.resize)
        return with_channels(pixels, channels)

    def images(self, images: Pixels) -> Pixels:
        """Images (N, H, W, C) of one size. Raises InvalidDataset when they become too large."""
        changed = self.resize is not None or images.shape[3] != self.shape[0]
        if not changed or len(images) == 0:
            return images
        first = self.image(images[0])
        check_size(len(images), first)
        fitted = np.empty((len(images), *first.shape), np.uint8)
        for place, pixels in enumerate(images):
            fitted[place] = self.image(pixels)
        return fitted


def resized(pixels: Pixels, height: int, width: int, resize: Resize) -> Pixels:
    """An image (H, W, C) in another size, as torchvision's `Resize` and `CenterCrop` make it of a Pillow image.

    `shorter_side` is at least as long as `height` and `width`. A strip so long that it would become a giant on the way
    is refused, with InvalidDataset.
    """
    if not isinstance(resize, CropCentre):
        return _scaled(pixels, height, width, resize)
    tall, wide = pixels.shape[:2]
    side = resize.shorter_side
    # torchvision rounds the longer side down, and the corner to the nearest pixel.
    new_tall, new_wide = (side, int(side * wide / tall)) if tall <= wide else (int(side * tall / wide), side)
    if new_tall * new_wide > MAX_RESIZED_PIXELS:
        raise InvalidDataset(
            f"an image of {size_of(pixels)} is too long a strip to be cut to {width} x {height}; remove it, or use the "
            "resizing `stretch`"
        )
    scaled = _scaled(pixels, new_tall, new_wide, resize)
    top, left = round((new_tall - height) / 2), round((new_wide - width) / 2)
    return scaled[top : top + height, left : left + width]


def _scaled(pixels: Pixels, height: int, width: int, resize: Resize) -> Pixels:
    scaled = [
        np.asarray(Image.fromarray(band).resize((width, height), _FILTERS[resize.interpolation]))
        for band in _bands(pixels)
    ]
    return np.concatenate([band.reshape(height, width, -1) for band in scaled], axis=2)


def _bands(pixels: Pixels) -> list[Pixels]:
    """What Pillow can resize: an image in colour, else each channel (H, W) by itself."""
    if pixels.shape[2] == _COLOUR:
        return [np.ascontiguousarray(pixels)]
    return [np.ascontiguousarray(pixels[:, :, channel]) for channel in range(pixels.shape[2])]


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey as three equal channels, or colour as its luma (ITU-R 601-2, as Pillow's `L`); others as they are."""
    if (pixels.shape[2], channels) == (_GREY, _COLOUR):
        return np.repeat(pixels, _COLOUR, axis=2)
    if (pixels.shape[2], channels) == (_COLOUR, _GREY):
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[:, :, None]
    return pixels


def check_size(count: int, image: Pixels) -> None:
    """Raise InvalidDataset when so many images like this one are too large to be held."""
    if count * image.size > MAX_DECODED_BYTES:
        raise InvalidDataset(
            f"{count} images of {size_of(image)} are more than {MAX_DECODED_BYTES >> 30} GiB of pixels; "
            "use fewer or smaller images"
        )


def size_of(image: Pixels) -> str:
    """Width and height in words."""
    return f"{image.shape[1]} x {image.shape[0]} pixels"
