"""Image files to pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.fit import Fit, check_size, resized, size_of
from modelpress.engine.data.labelled import SizeRange
from modelpress.engine.data.limits import MAX_IMAGE_PIXELS
from modelpress.spec.cores import available_cores
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.network import Stretch

# Decoders that only decode; Pillow knows others that start programs (EPS) or hold no pictures.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_AT_ONCE = 1024
# How an image is turned upright, by the value of the tag Orientation (EXIF 2.3, table 4).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Decoded:
    """Images of one size, or brought to one."""

    pixels: NDArray[np.uint8]  # (N, H, W, C)
    sizes: SizeRange | None  # of the files, where they differ and no network's input was known


def decode_images(names: list[str], places: list[int], read: Callable[[int], bytes], fit: Fit | None = None) -> Decoded:
    """Decode the images at `places` of a file, in that order, and bring each to the input that `fit` tells of.

    Without `fit` they have 1 channel when every image is grey, else 3, and images of another size than the first one's
    are stretched to that, so that their pixels can be counted. `read` is called from this thread only and in the
    file's own order, so that a compressed tar is walked through once. Raises InvalidDataset, naming the image.
    """
    pixels: NDArray[np.uint8] | None = None
    first, sizes = names[0] if names else "", SizeRange()
    by_place = sorted(range(len(places)), key=places.__getitem__)

    def decode(name: str, file: bytes) -> NDArray[np.uint8]:
        image = decode_image(name, file)
        try:
            return image if fit is None else fit.image(image)
        except InvalidDataset as error:
            raise InvalidDataset(f"{name}: {error.message}") from error

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        for begin in range(0, len(by_place), _AT_ONCE):
            block = by_place[begin : begin + _AT_ONCE]
            files = [read(places[index]) for index in block]
            for index, found in zip(block, pool.map(decode, [names[i] for i in block], files), strict=True):
                image = found
                if pixels is None:
                    first = names[index]
                    pixels = _allocate(len(names), image)
                if fit is None:
                    sizes = sizes.including(image.shape[0], image.shape[1])
                if image.shape[:2] != pixels.shape[1:3]:
                    if fit is not None:
                        raise InvalidDataset(
                            f"images differ in size: {first} is {size_of(pixels[0])}, {names[index]} is "
                            f"{size_of(image)}; upload the model with `resize`, which says how they are brought to "
                            "its input size, or resize them all"
                        )
                    image = resized(image, pixels.shape[1], pixels.shape[2], Stretch())
                if image.shape[2] > pixels.shape[3]:
                    # The first colour image among grey ones: a grey pixel is one with three equal channels.
                    check_size(len(names), image)
                    pixels = np.repeat(pixels, 3, axis=3)
                pixels[index] = image
    if pixels is None:
        raise InvalidDataset("there is no image in the file; pack one folder per class")
    return Decoded(pixels, sizes if sizes.differ else None)


def decode_image(name: str, file: bytes) -> NDArray[np.uint8]:
    """Decode one image: (H, W, 1) when it is grey, else (H, W, 3), upright as its EXIF tag says.

    Colour is what Pillow's `convert("RGB")` makes of palettes, CMYK and the rest, as in torchvision's `ImageFolder`:
    transparency is dropped, not laid over a background. Of 16 bits a channel the upper 8 are kept. Raises
    InvalidDataset, naming the image, when it cannot be read, is too large, or has more than 16 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
            # Before anything is decoded: a few bytes can declare a picture that fills the memory.
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise _too_large(name, image.width, image.height)
            image.load()  # which turns a TIFF by itself, and then has no tag left
            turn = _TURNS.get(_orientation(image))
            pixels = _pixels(name, image if turn is None else image.transpose(turn))
            return pixels[:, :, None] if pixels.ndim == 2 else pixels
    except _BOMB as error:
        raise InvalidDataset(f"{name} is too large ({error}); the limit is {MAX_IMAGE_PIXELS} pixels") from error
    except DAMAGED as error:
        reason = "it is no image of a known type" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InvalidDataset(f"{name} cannot be read ({reason}); replace or remove it") from error


def _pixels(name: str, image: Image.Image) -> NDArray[np.uint8]:
    """Grey (H, W) or colour (H, W, 3)."""
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
    if image.mode.startswith(("I", "F")):
        raise InvalidDataset(f"{name} has more than 16 bits per channel; convert it to 8 bits")
    if image.mode in ("P", "PA"):
        # Through the alpha channel that the palette's transparent colours make, which Pillow otherwise warns of.
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DAMAGED:  # many a photograph has a broken tag of another kind beside good pixels
        return 1


def _too_large(name: str, width: int, height: int) -> InvalidDataset:
    return InvalidDataset(
        f"{name} is {width} x {height}, the limit is {MAX_IMAGE_PIXELS} pixels; resize the images to the model's input"
    )


def _allocate(count: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    check_size(count, image)
    return np.empty((count, *image.shape), dtype=np.uint8)
