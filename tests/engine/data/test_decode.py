"""Every kind of pixel that image files hold, brought to 8 bits of grey or of three colours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from modelpress.engine.data.decode import decode_image, decode_images
from modelpress.engine.data.fit import Fit
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.network import Stretch
from tests.support.archives import picture, pixels_of

DRAW = np.random.default_rng(0)
COLOUR = DRAW.integers(0, 256, (5, 6, 3), dtype=np.uint8)
ALPHA = DRAW.integers(0, 256, (5, 6, 1), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_transparency_is_dropped():
    colour = encoded(Image.fromarray(np.concatenate([COLOUR, ALPHA], axis=2)))
    np.testing.assert_array_equal(decode_image("x", colour), COLOUR)
    grey = encoded(Image.fromarray(np.concatenate([COLOUR[:, :, :1], ALPHA], axis=2)))
    np.testing.assert_array_equal(decode_image("x", grey), COLOUR[:, :, :1])


def test_bits_are_black_and_white():
    bits = DRAW.integers(0, 2, (5, 6)).astype(bool)
    np.testing.assert_array_equal(decode_image("x", encoded(Image.fromarray(bits)))[:, :, 0], bits * 255)


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
def test_palettes_are_looked_up(transparency: Any):
    palette = [(0, 0, 0), (200, 10, 20), (1, 2, 3)]
    places = DRAW.integers(0, 3, (5, 6), dtype=np.uint8)
    image = Image.fromarray(places, "P")
    image.putpalette([value for colour in palette for value in colour])
    file = encoded(image) if transparency is None else encoded(image, transparency=transparency)
    np.testing.assert_array_equal(decode_image("x", file), np.array(palette, dtype=np.uint8)[places])


def test_inks_are_what_they_leave_of_white():
    inks = np.zeros((5, 6, 4), dtype=np.uint8)
    inks[:, :, 0] = COLOUR[:, :, 0]  # cyan takes away red
    pixels = decode_image("x", encoded(Image.fromarray(inks, "CMYK"), "TIFF"))
    np.testing.assert_array_equal(pixels[:, :, 0], 255 - COLOUR[:, :, 0])
    assert (pixels[:, :, 1:] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_16_bits_the_upper_8_are_kept(kind: str):
    deep = DRAW.integers(0, 2**16, (5, 6), dtype=np.uint16)
    pixels = decode_image("x", encoded(Image.fromarray(deep), kind))
    np.testing.assert_array_equal(pixels[:, :, 0], deep // 256)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_more_bits_have_no_known_range(dtype: type):
    file = encoded(Image.fromarray(np.zeros((5, 6), dtype=dtype)), "TIFF")
    with pytest.raises(InvalidDataset, match="photo has more than 16 bits per channel; convert it"):
        decode_image("photo", file)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        # EXIF 2.3, table 4: where the 0th row and the 0th column of what is stored lie in what is shown.
        (1, lambda shown: shown),  # top, left
        (2, lambda shown: shown[:, ::-1]),  # top, right
        (3, lambda shown: shown[::-1, ::-1]),  # bottom, right
        (4, lambda shown: shown[::-1]),  # bottom, left
        (5, lambda shown: shown.transpose(1, 0, 2)),  # left, top
        (6, lambda shown: shown.transpose(1, 0, 2)[::-1]),  # right, top
        (7, lambda shown: shown.transpose(1, 0, 2)[::-1, ::-1]),  # right, bottom
        (8, lambda shown: shown.transpose(1, 0, 2)[:, ::-1]),  # left, bottom
        (9, lambda shown: shown),  # there is no such value
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_photographs_are_turned_upright(orientation: int, upright: Any, kind: str):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.ascontiguousarray(upright(COLOUR))
    np.testing.assert_array_equal(decode_image("x", encoded(Image.fromarray(stored), kind, exif=exif)), COLOUR)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_a_broken_exif_tag_leaves_the_image_as_it_is():
    file = encoded(Image.fromarray(COLOUR), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    np.testing.assert_array_equal(decode_image("x", file), COLOUR)


def _read(files: list[bytes], fit: Fit | None) -> Any:
    return decode_images(
        [f"{index}.png" for index in range(len(files))], list(range(len(files))), files.__getitem__, fit
    )


def test_images_of_many_sizes_are_counted_at_the_size_of_the_first():
    found = _read([picture(1), picture(2, size=(12, 4)), picture(3, size=(3, 10), mode="L")], None)
    assert found.pixels.shape == (3, 5, 6, 3)
    assert found.sizes is not None
    assert (found.sizes.smallest, found.sizes.largest) == ((4, 3), (10, 12))
    np.testing.assert_array_equal(found.pixels[0], pixels_of(picture(1)))


def test_images_of_one_size_have_no_range():
    assert _read([picture(1), picture(2)], None).sizes is None


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_many_sizes_are_brought_to_the_input(channels: int):
    files = [picture(1), picture(2, size=(12, 4)), picture(3, size=(3, 10), mode="L")]
    found = _read(files, Fit((channels, 7, 8), Stretch()))
    assert found.pixels.shape == (3, 7, 8, channels)
    expected = Image.open(io.BytesIO(files[1])).resize((8, 7), Image.Resampling.BILINEAR)
    if channels == 1:
        expected = expected.convert("L")
    np.testing.assert_array_equal(found.pixels[1].squeeze(), np.asarray(expected))
