"""Image files to pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_IMAGE_PIXELS
from modelpress.spec.failure import InvalidDataset

# Decoders that only decode; Pillow knows others that start programs (EPS) or hold no pictures.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_AT_ONCE = 1024
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode_images(names: list[str], places: list[int], read: Callable[[int], bytes]) -> NDArray[np.uint8]:
    """Decode the images at `places` of an archive, all of one size, in that order.

    Returns (N, H, W, 1) when every image is grey, else (N, H, W, 3). `read` is called from this thread only and in
    the archive's own order, so that a compressed tar is walked through once. Raises InvalidDataset, naming the image.
    """
    pixels: NDArray[np.uint8] | None = None
    first = names[0]
    by_place = sorted(range(len(places)), key=places.__getitem__)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for begin in range(0, len(by_place), _AT_ONCE):
            block = by_place[begin : begin + _AT_ONCE]
            files = [read(places[index]) for index in block]
            for index, image in zip(block, pool.map(decode_image, [names[i] for i in block], files), strict=True):
                if pixels is None:
                    first = names[index]
                    pixels = _allocate(len(names), image)
                if image.shape[:2] != pixels.shape[1:3]:
                    raise InvalidDataset(
                        f"images differ in size: {first} is {_size(pixels[0])}, {names[index]} is {_size(image)}; "
                        "resize them all to the model's input size"
                    )
                if image.shape[2] > pixels.shape[3]:
                    # The first colour image among grey ones: a grey pixel is one with three equal channels.
                    _check_size(len(names), image)
                    pixels = np.repeat(pixels, 3, axis=3)
                pixels[index] = image
    if pixels is None:
        raise InvalidDataset("there is no image in the archive; pack one folder per class")
    return pixels


def decode_image(name: str, file: bytes) -> NDArray[np.uint8]:
    """Decode one image: (H, W, 1) when it is grey, else (H, W, 3). Transparency is dropped.

    Raises InvalidDataset, naming the image, when it cannot be read, is too large, or has more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
            # Before anything is decoded: a few bytes can declare a picture that fills the memory.
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise _too_large(name, image.width, image.height)
            if image.mode in ("1", "L", "LA", "La"):
                return np.asarray(image.convert("L"))[:, :, None]
            if image.mode.startswith(("I", "F")):
                raise InvalidDataset(f"{name} has more than 8 bits per channel; convert it to 8 bits")
            return np.asarray(image.convert("RGB"))
    except _BOMB as error:
        raise InvalidDataset(f"{name} is too large ({error}); the limit is {MAX_IMAGE_PIXELS} pixels") from error
    except DAMAGED as error:
        reason = "it is no image of a known type" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InvalidDataset(f"{name} cannot be read ({reason}); replace or remove it") from error


def _too_large(name: str, width: int, height: int) -> InvalidDataset:
    return InvalidDataset(
        f"{name} is {width} x {height}, the limit is {MAX_IMAGE_PIXELS} pixels; resize the images to the model's input"
    )


def _allocate(count: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _check_size(count, image)
    return np.empty((count, *image.shape), dtype=np.uint8)


def _check_size(count: int, image: NDArray[np.uint8]) -> None:
    if count * image.size > MAX_DECODED_BYTES:
        raise InvalidDataset(
            f"{count} images of {_size(image)} are more than {MAX_DECODED_BYTES >> 30} GiB of pixels; "
            "use fewer or smaller images"
        )


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"
