from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelpress.engine.data.fit import Fit
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.data.registry import read_file
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.network import Stretch
from tests.support.archives import picture, pixels_of, write_tar, write_zip


def test_labels_as_numbers(tmp_path: Path):
    files = {}
    for index, label in enumerate([2, 0, 2]):
        files |= {f"{index:06}.png": picture(index), f"{index:06}.cls": f"{label}\n".encode()}
    content = read_file(write_tar(tmp_path / "file", files))
    assert (content.layout, content.classes, content.heldout) == ("webdataset", ("0", "1", "2"), None)
    assert content.train.labels.tolist() == [2, 0, 2]
    for index, image in enumerate(content.train.images):
        np.testing.assert_array_equal(image, pixels_of(picture(index)))


@pytest.mark.parametrize("key", ["label", "cls", "class", "class_name"])
def test_labels_in_json_beside_other_members(tmp_path: Path, key: str):
    files = {
        "shard/a.json": f'{{"{key}": "dog", "width": 6}}'.encode(),
        "shard/a.png": picture(1),
        "shard/a.txt": b"a dog",
        "shard/b.seg.png": picture(2),
        "shard/b.json": f'{{"{key}": "cat"}}'.encode(),
        "shard/c.jpg": picture(3, kind="JPEG"),
        "shard/._a.png": b"left behind",
    }
    content = read_file(write_tar(tmp_path / "file", files))
    assert content.classes == ("cat", "dog")
    assert content.train.labels.tolist() == [1, 0, -1]
    np.testing.assert_array_equal(content.train.images[1], pixels_of(picture(2)))


def test_the_file_cls_comes_first(tmp_path: Path):
    files = {"a.json": b'{"label": 0}', "a.cls": b"1", "a.png": picture(1), "b.cls": b"0", "b.png": picture(2)}
    assert read_file(write_zip(tmp_path / "file", files)).train.labels.tolist() == [1, 0]


@pytest.mark.parametrize("around", ["", "set/", "./a/b/"])
def test_parts_by_their_folders(tmp_path: Path, around: str):
    files = {}
    for index, part in enumerate(["test", "train", "val", "train"]):
        name = f"{around}{part}/{index}"
        files |= {f"{name}.png": picture(index), f"{name}.cls": str(index % 2).encode()}
    found = inspect_dataset(write_tar(tmp_path / "file", files))
    assert (found.layout, found.train_examples, found.heldout_examples, found.unused_examples) == (
        "webdataset",
        2,
        1,
        1,
    )


@pytest.mark.parametrize("place", ["extra/", ""])
def test_what_is_beside_the_parts_is_not_trained_on_with_all_of_them(tmp_path: Path, place: str):
    files = {}
    for index, part in enumerate(["test/", "train/", place, "train/"]):
        files |= {f"{part}{index}.png": picture(index), f"{part}{index}.cls": str(index % 2).encode()}
    with pytest.raises(InvalidDataset, match=f"{place}2 lies beside the parts 'test', 'train' and in none"):
        inspect_dataset(write_tar(tmp_path / "file", files))


def test_images_are_brought_to_the_input(tmp_path: Path):
    files = {"a.png": picture(1), "a.cls": b"0", "b.png": picture(2, size=(9, 9)), "b.cls": b"1"}
    path = write_tar(tmp_path / "file", files)
    assert inspect_dataset(path).largest_size == (9, 9)
    assert read_file(path, Fit((1, 4, 4), Stretch())).train.images.shape == (2, 4, 4, 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"b.cls": b"dog"}, r"b.cls is not a number counted from 0"),
        ({"b.cls": b"-2"}, r"b has the label -2, which is none of the 1 classes"),
        ({"b.cls": b"65536"}, "the largest label is 65536, the limit is 65535"),
        ({"b.cls": b"9" * 5000}, "b.cls is not a number"),
        ({"b.json": b"{"}, r"b.json is not JSON"),
        ({"b.json": b"[" * 100_000}, r"b.json is not JSON"),
        ({"b.json": b'{"label": "dog"}'}, "a has a number as its label, b a name"),
        ({"b.json": bytes(2**20 + 1)}, "b.json has 1048577 bytes, a label has a few"),
        ({"b.cls": b"0"}, "one class only, '0'"),
        ({"b.cls": b"1", "b.jpg": picture(3, kind="JPEG")}, "the sample b has 2 images"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, files: dict[str, bytes], message: str):
    whole = {"a.png": picture(1), "a.cls": b"0", "b.png": picture(2)} | files
    with pytest.raises(InvalidDataset, match=message):
        read_file(write_tar(tmp_path / "file", whole))


def test_json_without_a_label_is_not_taken_for_none(tmp_path: Path):
    files = {
        f"{name}/1.{ending}": content for name in "ab" for ending, content in (("png", picture()), ("json", b"{}"))
    }
    with pytest.raises(InvalidDataset, match=r"none of the files beside the images, such as those of a/1, has a label"):
        read_file(write_tar(tmp_path / "file", files))


def test_what_is_held_out_has_a_label(tmp_path: Path):
    files = {"train/1.png": picture(), "train/1.cls": b"1", "test/2.png": picture()}
    with pytest.raises(InvalidDataset, match="test/2 is held out and has no label"):
        read_file(write_tar(tmp_path / "file", files))
