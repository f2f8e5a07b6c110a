"""Data sets as arrays: an npz of `images` and `labels`, and perhaps `test_images`, `test_labels` and `classes`; an npy
of images alone, which have no labels."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from modelpress.engine.data.class_labels import check_classes, counted_classes
from modelpress.engine.data.damage import DAMAGED
from modelpress.engine.data.expansion import check_expansion
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.labelled import UNLABELLED, DatasetContent, LabelledImages
from modelpress.engine.data.limits import MAX_DECODED_BYTES, MAX_IMAGE_PIXELS, MAX_IMAGES
from modelpress.spec.failure import InvalidDataset

_MOST_CHANNELS = 4


def read_npz(path: Path, fit: Fit | None = None) -> DatasetContent:
    """Read an npz: images uint8 (N, H, W) or (N, H, W, C), labels integers (N,) from 0, -1 for none.

    Where every label is -1 there are no classes and no held-out part. Images are brought to what `fit` says. Raises
    InvalidDataset.
    """
    content = _read_npz(path)
    return content if fit is None else content.fitted(fit.images)


def _read_npz(path: Path) -> DatasetContent:
    with _open(path) as archive:
        check_expansion(sum(info.file_size for info in archive.infolist()), path.stat().st_size)
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        missing = {"images", "labels"} - names
        if missing:
            raise InvalidDataset(
                f"the npz has no array {min(missing)!r}, it has {', '.join(sorted(names))}; "
                "save it with numpy.savez(file, images=..., labels=...)"
            )
        if ("test_images" in names) != ("test_labels" in names):
            raise InvalidDataset("`test_images` and `test_labels` belong together; give both or neither")
        train_images = _images(archive, "images")
        labels = _labels(archive, "labels", len(train_images), least=UNLABELLED)
        if (labels == UNLABELLED).all():
            if "test_images" in names:
                raise InvalidDataset(
                    "`test_labels` are of no use where none of `labels` is a label; label a few images"
                )
            return DatasetContent("arrays", (), LabelledImages(train_images, labels), None)
        classes = _classes(archive, labels) if "classes" in names else _counted_classes(labels)
        _check_labels("labels", labels, len(classes), least=UNLABELLED)
        absent = np.flatnonzero(np.bincount(labels[labels != UNLABELLED], minlength=len(classes)) == 0)
        if len(absent):
            raise InvalidDataset(
                f"class {classes[absent[0]]!r} (label {absent[0]}) has no images in `images`; "
                "labels count from 0 without gaps"
            )
        if len(classes) < 2:
            raise InvalidDataset("there is one class only; a data set needs at least two")
        train = LabelledImages(train_images, labels)
        if "test_images" not in names:
            return DatasetContent("arrays", classes, train, None)
        test_images = _images(archive, "test_images")
        if test_images.shape[1:] != train_images.shape[1:]:
            raise InvalidDataset(
                f"`test_images` are {_shape(test_images.shape[1:])}, `images` are {_shape(train_images.shape[1:])} "
                "(height x width x channels); make them alike"
            )
        test_labels = _labels(archive, "test_labels", len(test_images))
        _check_labels("test_labels", test_labels, len(classes))
        return DatasetContent("arrays", classes, train, LabelledImages(test_images, test_labels))


def read_npy(path: Path, fit: Fit | None = None) -> DatasetContent:
    """Read an npy of images, uint8 (N, H, W, C), none of which has a label. Raises InvalidDataset.

    Three dimensions are refused, unlike in an npz: they could be one image in colour as well as many grey ones.
    """
    try:
        with path.open("rb") as file:
            images = _read_array(file, "the array", MAX_DECODED_BYTES)
    except DAMAGED as error:
        raise InvalidDataset(f"the npy is damaged ({error}); save it again and upload it again") from error
    if images.ndim != 4:
        raise InvalidDataset(
            f"the array has shape {images.shape}; images are (images, height, width, channels), and are saved with "
            "labels by numpy.savez(file, images=..., labels=...)"
        )
    checked = _check_images(images, "the array")
    if fit is not None:
        checked = fit.images(checked)
    return DatasetContent("arrays", (), LabelledImages(checked, np.full(len(checked), UNLABELLED)), None)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except DAMAGED as error:
        raise InvalidDataset(f"the npz is damaged ({error}); save it again and upload it again") from error


def _array(archive: zipfile.ZipFile, name: str, most_bytes: int) -> NDArray[Any]:
    try:
        with archive.open(f"{name}.npy") as file:
            return _read_array(file, f"`{name}`", most_bytes)
    except DAMAGED as error:
        raise InvalidDataset(f"`{name}` of the npz is damaged ({error}); save it again and upload it again") from error


def _read_array(file: IO[bytes], name: str, most_bytes: int) -> NDArray[Any]:
    """One array, its size checked by its header before anything is allocated."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read_header(file)
    except MemoryError as error:
        # Python's parser, by which numpy reads the header, gives up on deep nesting with it.
        raise InvalidDataset(
            f"{name} is damaged: its header is no header; save it again and upload it again"
        ) from error
    if dtype.hasobject:
        raise InvalidDataset(f"{name} holds Python objects; save plain numbers (or strings for `classes`)")
    if math.prod(shape) * dtype.itemsize > most_bytes:
        raise InvalidDataset(
            f"{name} has shape {shape}, which is more than {most_bytes >> 20} MiB; use fewer or smaller images"
        )
    file.seek(0)
    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _images(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    return _check_images(_array(archive, name, MAX_DECODED_BYTES), f"`{name}`")


def _check_images(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise InvalidDataset(f"{name} is of type {images.dtype}; save pixels as uint8 from 0 to 255")
    if images.ndim == 3:
        images = images[:, :, :, None]
    if images.ndim != 4 or not 1 <= images.shape[3] <= _MOST_CHANNELS:
        raise InvalidDataset(
            f"{name} has shape {images.shape}; it must be (images, height, width) or (images, height, width, channels)"
        )
    count, height, width, _ = images.shape
    if count == 0 or height == 0 or width == 0:
        raise InvalidDataset(f"{name} has shape {images.shape}: there are no images in it")
    if count > MAX_IMAGES or height * width > MAX_IMAGE_PIXELS:
        raise InvalidDataset(
            f"{name} has shape {images.shape}; the limits are {MAX_IMAGES} images and {MAX_IMAGE_PIXELS} pixels each"
        )
    return np.ascontiguousarray(images)


def _labels(archive: zipfile.ZipFile, name: str, count: int, least: int = 0) -> NDArray[np.int64]:
    labels = _array(archive, name, 8 * MAX_IMAGES)
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidDataset(f"`{name}` is of type {labels.dtype}; labels are integers counted from 0")
    if labels.shape not in ((count,), (count, 1)):
        raise InvalidDataset(
            f"`{name}` has shape {labels.shape}, but there are {count} images; give one label per image"
        )
    labels = labels.reshape(count)
    # Before the cast: a large unsigned label would turn negative and be named wrongly.
    _check_labels(name, labels, MAX_IMAGES, least)
    return labels.astype(np.int64)


def _check_labels(name: str, labels: NDArray[Any], classes: int, least: int = 0) -> None:
    wrong = np.flatnonzero((labels < least) | (labels >= classes))
    if len(wrong):
        place = wrong[0]
        raise InvalidDataset(
            f"`{name}`[{place}] is {labels[place]}, out of range: there are {classes} classes, "
            f"so labels go from 0 to {classes - 1}" + (", -1 for none" if least < 0 else "")
        )


def _counted_classes(labels: NDArray[np.int64]) -> tuple[str, ...]:
    most = int(labels.max())
    if most >= len(labels):
        # There cannot be an image for each class up to this one.
        raise InvalidDataset(
            f"the largest of `labels` is {most} for {len(labels)} images; labels count from 0 without gaps"
        )
    return counted_classes(most)


def _classes(archive: zipfile.ZipFile, labels: NDArray[np.int64]) -> tuple[str, ...]:
    names = _array(archive, "classes", 2**20)
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise InvalidDataset("`classes` must be a list of strings, one name per label")
    decoded = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
    check_classes(decoded)
    if len(set(decoded)) != len(decoded):
        raise InvalidDataset("`classes` names a class twice; give each label its own name")
    _check_labels("labels", labels, len(decoded), least=UNLABELLED)
    return decoded


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
