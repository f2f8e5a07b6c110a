from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.data.registry import read_file
from modelpress.spec.failure import InvalidDataset
from tests.support.archives import write_tar, write_zip
from tests.support.cifar import (
    CLASSES,
    Python2Pickle,
    cifar10_binary,
    cifar10_python,
    cifar100_binary,
    cifar100_python,
    pictures,
    rows,
)

FINE = [f"class_{index}" for index in range(100)]
TEN: dict[str, tuple[np.ndarray, list[int]]] = {
    **{f"data_batch_{number}": (pictures(3, number), [0, number, 9]) for number in range(1, 6)},
    "test_batch": (pictures(2, 9), [8, 9]),
}
HUNDRED = {"train": (pictures(6, 1), [0, 99, 50, 3, 3, 7]), "test": (pictures(2, 2), [98, 99])}


@pytest.mark.parametrize("make", [cifar10_python, cifar10_binary])
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_cifar_10(tmp_path: Path, make: Callable[[Any], dict[str, bytes]], write: Callable[..., Path]):
    path = write(tmp_path / "file", dict(reversed(make(TEN).items())))
    content = read_file(path)
    assert content.layout == make.__name__.replace("10", "")
    assert content.classes == CLASSES
    expected = np.concatenate([TEN[f"data_batch_{number}"][0] for number in range(1, 6)])
    np.testing.assert_array_equal(content.train.images, expected)
    assert content.train.labels.tolist() == [0, 1, 9, 0, 2, 9, 0, 3, 9, 0, 4, 9, 0, 5, 9]
    assert content.heldout is not None
    np.testing.assert_array_equal(content.heldout.images, TEN["test_batch"][0])
    assert content.heldout.labels.tolist() == [8, 9]
    found = inspect_dataset(path)
    assert (found.train_examples, found.heldout_examples, found.image_shape) == (15, 2, (3, 32, 32))


@pytest.mark.parametrize("make", [cifar100_python, cifar100_binary])
def test_cifar_100_has_its_fine_labels(tmp_path: Path, make: Callable[..., dict[str, bytes]]):
    content = read_file(write_tar(tmp_path / "file", make(HUNDRED, FINE)))
    assert content.layout == make.__name__.replace("100", "")
    assert content.classes == tuple(FINE)
    np.testing.assert_array_equal(content.train.images, HUNDRED["train"][0])
    assert content.train.labels.tolist() == [0, 99, 50, 3, 3, 7]
    assert content.heldout is not None
    assert content.heldout.labels.tolist() == [98, 99]


@pytest.mark.parametrize("make", [cifar10_python, cifar10_binary])
def test_some_batches_without_the_test_part(tmp_path: Path, make: Callable[[Any], dict[str, bytes]]):
    content = read_file(write_tar(tmp_path / "file", make({name: TEN[name] for name in ("data_batch_1",)})))
    assert len(content.train.labels) == 3
    assert content.heldout is None


def _meta(content: object) -> dict[str, bytes]:
    return _python() | {"cifar-10-batches-py/batches.meta": Python2Pickle().dump(content)}


def _python(**change: Any) -> dict[str, bytes]:
    content = {"labels": [0, 1], "data": rows(pictures(2)), **change}
    files = cifar10_python({})
    return files | {"cifar-10-batches-py/data_batch_1": Python2Pickle().dump(content)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (_python(labels=[0, 10]), "data_batch_1 has the label 10, where there are 10 classes"),
        (_python(labels=[0, -1]), "data_batch_1 has the label -1"),
        (_python(labels=[0]), "data_batch_1 has 2 images and 1 labels"),
        (_python(labels=[0, "1"]), "labels of data_batch_1 are no list of integers"),
        (_python(labels=[0, True]), "labels of data_batch_1 are no list of integers"),
        (_python(data=[1, 2]), "`data` of data_batch_1 is no array of images"),
        (_python(data=np.zeros((2, 3071), np.uint8)), "`data` of data_batch_1 is no array of images"),
        (
            _python() | {"cifar-10-batches-py/batches.meta": Python2Pickle().dump({})},
            "batches.meta has no `label_names`",
        ),
        (
            _python() | {"cifar-10-batches-py/batches.meta": Python2Pickle().dump([])},
            "batches.meta holds no dictionary",
        ),
        (_meta({"label_names": ["a", "a"]}), "not two at least, all different"),
        (_meta({"label_names": [str(label) for label in range(65_537)]}), "more than 65536 classes; use fewer"),
        (_python() | {"cifar-10-batches-py/data_batch_1": b"cos\nsystem\n."}, "data_batch_1 is a pickle with the name"),
        (_python() | {"cifar-10-batches-py/data_batch_1": b""}, "data_batch_1 is damaged"),
        (
            cifar10_binary(TEN) | {"cifar-10-batches-bin/test_batch.bin": bytes(3072)},
            "test_batch.bin has 3072 bytes, which is no multiple of 3073",
        ),
        (
            cifar10_binary(TEN) | {"cifar-10-batches-bin/test_batch.bin": bytes([77]) * 3073},
            "test_batch.bin has the label 77",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, files: dict[str, bytes], message: str):
    with pytest.raises(InvalidDataset, match=message):
        read_file(write_tar(tmp_path / "file", files))
