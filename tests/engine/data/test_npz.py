from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from modelpress.engine.data import npz
from modelpress.engine.data.limits import MAX_CLASSES
from modelpress.engine.data.registry import read_file
from modelpress.spec.failure import InvalidDataset

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def save(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path / "data.npz", **{"images": IMAGES, "labels": LABELS, **arrays})  # type: ignore[arg-type]
    return path / "data.npz"


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_colour_images(tmp_path: Path, dtype: type):
    content = read_file(save(tmp_path, labels=LABELS.astype(dtype)))
    np.testing.assert_array_equal(content.train.images, IMAGES)
    assert content.train.labels.dtype == np.int64
    assert content.train.labels.tolist() == LABELS.tolist()
    assert content.classes == ("0", "1", "2")
    assert content.heldout is None


def test_grey_images_named_classes_and_a_held_out_part(tmp_path: Path):
    path = save(
        tmp_path,
        images=IMAGES[..., 0],
        labels=LABELS[:, None],
        test_images=IMAGES[:2, :, :, :1],
        test_labels=LABELS[:2],
        classes=np.array(["ant", "bee", "cow"]),
    )
    content = read_file(path)
    assert content.train.images.shape == (6, 5, 4, 1)
    assert content.classes == ("ant", "bee", "cow")
    assert content.heldout is not None
    np.testing.assert_array_equal(content.heldout.images, IMAGES[:2, :, :, :1])


def test_arrays_stored_by_columns(tmp_path: Path):
    content = read_file(save(tmp_path, images=np.asfortranarray(IMAGES)))
    np.testing.assert_array_equal(content.train.images, IMAGES)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES.astype(np.float32) / 255}, "type float32; save pixels as uint8"),
        ({"images": np.moveaxis(np.repeat(IMAGES, 3, axis=2), 3, 1)}, r"must be \(images, height, width\) or"),
        ({"images": IMAGES[:, 0, 0]}, "must be"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "there are no images"),
        ({"labels": LABELS[:5]}, r"`labels` has shape \(5,\), but there are 6 images"),
        ({"labels": LABELS.astype(float)}, "type float64; labels are integers"),
        ({"labels": np.array([0, 1, 2, 0, -2, 2])}, r"`labels`\[4\] is -2, out of range"),
        ({"labels": np.array([0, 1, 2, 0, 2**63, 2], dtype=np.uint64)}, r"\[4\] is 9223372036854775808, out of range"),
        ({"labels": np.array([0, 1, 2, 0, 99, 2])}, "largest of `labels` is 99 for 6 images"),
        ({"labels": np.array([0, 1, 4, 0, 1, 4])}, r"class '2' \(label 2\) has no images"),
        ({"labels": np.zeros(6, dtype=int)}, "one class only"),
        ({"classes": np.array(["a", "b"])}, r"`labels`\[2\] is 2, out of range: there are 2 classes"),
        ({"classes": np.array(["a", "b", "c", "d"])}, r"class 'd' \(label 3\) has no images"),
        ({"classes": np.array(["a", "b", "b"])}, "names a class twice"),
        ({"classes": np.array([1, 2, 3])}, "must be a list of strings"),
        ({"classes": np.array(["a", None, "c"], dtype=object)}, "holds Python objects"),
        ({"labels": LABELS.astype(object)}, "holds Python objects"),
        ({"test_images": IMAGES}, "belong together"),
        ({"test_images": IMAGES[:, :4], "test_labels": LABELS}, "`test_images` are 4 x 4 x 3, `images` are 5 x 4 x 3"),
        ({"test_images": IMAGES, "test_labels": LABELS + 1}, r"`test_labels`\[2\] is 3, out of range"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arrays: dict[str, object], message: str):
    with pytest.raises(InvalidDataset, match=message):
        read_file(save(tmp_path, **arrays))


def test_missing_arrays_are_named(tmp_path: Path):
    np.savez(tmp_path / "data.npz", x=IMAGES, y=LABELS)
    with pytest.raises(InvalidDataset, match="no array 'images', it has x, y"):
        read_file(tmp_path / "data.npz")


def test_a_header_that_declares_a_giant_is_refused_before_it_is_allocated(tmp_path: Path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**5, 10**5, 3)}
    )
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as file:
        file.writestr("images.npy", header.getvalue() + b"\0" * 100)
        file.writestr("labels.npy", b"")
    with pytest.raises(InvalidDataset, match="which is more than 16384 MiB"):
        read_file(tmp_path / "data.npz")


def test_too_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(npz, "MAX_IMAGES", 5)
    with pytest.raises(InvalidDataset, match="the limits are 5 images"):
        read_file(save(tmp_path))


def test_more_classes_than_can_be_shown_are_refused(tmp_path: Path):
    """An image of one pixel for each: a file of few bytes."""
    count = MAX_CLASSES + 1
    path = save(tmp_path, images=np.zeros((count, 1, 1), dtype=np.uint8), labels=np.arange(count))
    assert path.stat().st_size < 2**18
    with pytest.raises(InvalidDataset, match="the largest label is 65536, the limit is 65535"):
        read_file(path)


def test_names_of_classes_that_are_too_long_to_be_shown_are_refused(tmp_path: Path):
    """Bytes that are no UTF-8 are replaced by a sign that takes six in JSON."""
    names = np.array([b"\xff" * 300_000 + end for end in (b"a", b"b", b"c")])
    path = save(tmp_path, classes=names)
    assert path.stat().st_size < 2**18
    with pytest.raises(InvalidDataset, match="the names of the classes come to more than 2 MiB together"):
        read_file(path)


def test_nothing_but_typed_errors_from_damaged_files(tmp_path: Path):
    path = save(tmp_path, classes=np.array(["a", "b", "c"]))
    whole = path.read_bytes()
    draw = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 8):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            read_file(path)
        except InvalidDataset:
            refused += 1
    assert refused > 150


def test_a_header_too_deep_for_pythons_parser_is_damage(tmp_path: Path):
    text = b"-" * 9000 + b"1\n"
    np.savez(tmp_path / "deep.npz", labels=np.arange(4) % 2)
    with zipfile.ZipFile(tmp_path / "deep.npz", "a") as file:
        file.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(InvalidDataset, match="`images` is damaged: its header"):
        read_file(tmp_path / "deep.npz")
