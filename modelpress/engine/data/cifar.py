"""CIFAR-10 and CIFAR-100 as published (https://www.cs.toronto.edu/~kriz/cifar.html): the archives for Python and C.

                for Python                           for C
CIFAR-10        data_batch_1..5, test_batch,         data_batch_1.bin..5.bin, test_batch.bin,
                batches.meta                         batches.meta.txt
CIFAR-100       train, test, meta                    train.bin, test.bin, fine_label_names.txt

Files for Python are pickles of a dictionary with `data`, uint8 (N, 3072), and `labels`, or `fine_labels` and
`coarse_labels`; they are read as data alone (`plain_pickle`). Files for C are records: a byte with the label, or two
with the coarse and the fine one, then 3072 of pixels. Pixels are 32 x 32 by channel: red, green, blue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.engine.data.archive import Archive, Entry
from modelpress.engine.data.class_labels import check_classes
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.labelled import DatasetContent, LabelledImages
from modelpress.engine.data.plain_pickle import load_plain
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.inspection import DatasetLayout

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_NAMES = frozenset(
    [f"{name}{suffix}" for name in ("train", "test", "test_batch") for suffix in ("", ".bin")]
    + [f"data_batch_{number}{suffix}" for number in range(1, 6) for suffix in ("", ".bin")]
    + ["batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt"]
)
_AS_PUBLISHED = "download the archive again, and upload it unchanged"


def find_python(entries: Sequence[Entry]) -> Mapping[str, int] | None:
    """Places of the files of an archive for Python, by name; None where it is no such archive."""
    return _find(entries, ("data_batch_1", "batches.meta"), ("train", "meta"))


def find_binary(entries: Sequence[Entry]) -> Mapping[str, int] | None:
    """Places of the files of an archive for C, by name; None where it is no such archive."""
    return _find(entries, ("data_batch_1.bin", "batches.meta.txt"), ("train.bin", "fine_label_names.txt"))


def read_python(archive: Archive, files: Mapping[str, int], fit: Fit | None = None) -> DatasetContent:
    """Read an archive for Python; the test part is held out. Raises InvalidDataset."""
    is_ten = "batches.meta" in files
    meta = "batches.meta" if is_ten else "meta"
    named = _entry(_dictionary(archive, files, meta), "label_names" if is_ten else "fine_label_names", meta)
    classes = _class_names(named)

    def read(name: str) -> LabelledImages:
        content = _dictionary(archive, files, name)
        data = _entry(content, "data", name)
        labels = _entry(content, "labels" if is_ten else "fine_labels", name)
        if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
            raise InvalidDataset(f"`data` of {name} is no array of images of {_PIXELS} bytes; {_AS_PUBLISHED}")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise InvalidDataset(f"the labels of {name} are no list of integers; {_AS_PUBLISHED}")
        return _images(name, data, labels, len(classes))

    return _content("cifar_python", classes, *_parts(files, "", is_ten), read, fit)


def read_binary(archive: Archive, files: Mapping[str, int], fit: Fit | None = None) -> DatasetContent:
    """Read an archive for C; the test part is held out. Raises InvalidDataset."""
    is_ten = "batches.meta.txt" in files
    text = archive.read(files["batches.meta.txt" if is_ten else "fine_label_names.txt"]).decode("utf-8", "replace")
    classes = _class_names(text.split())
    labels_ahead = 1 if is_ten else 2  # of an image; the fine one is the last

    def read(name: str) -> LabelledImages:
        data = np.frombuffer(archive.read(files[name]), np.uint8)
        size = labels_ahead + _PIXELS
        if len(data) == 0 or len(data) % size:
            raise InvalidDataset(f"{name} has {len(data)} bytes, which is no multiple of {size}; {_AS_PUBLISHED}")
        records = data.reshape(-1, size)
        labels = records[:, labels_ahead - 1].tolist()
        return _images(name, records[:, labels_ahead:], labels, len(classes))

    return _content("cifar_binary", classes, *_parts(files, ".bin", is_ten), read, fit)


def _find(entries: Sequence[Entry], *signs: tuple[str, str]) -> Mapping[str, int] | None:
    """Files by name of the folder in which both of a pair of `signs` lie, whatever it is called."""
    by_folder: dict[str, dict[str, int]] = {}
    for place, entry in enumerate(entries):
        path = PurePosixPath(entry.name)
        if not entry.folder and path.name in _NAMES:
            by_folder.setdefault(str(path.parent), {})[path.name] = place
    for files in by_folder.values():
        if any(set(pair) <= set(files) for pair in signs):
            return files
    return None


def _parts(files: Mapping[str, int], suffix: str, is_ten: bool) -> tuple[list[str], str | None]:
    """Names of the training files and of the test file, if that is there."""
    train = [f"data_batch_{number}{suffix}" for number in range(1, 6)] if is_ten else [f"train{suffix}"]
    test = f"test_batch{suffix}" if is_ten else f"test{suffix}"
    return [name for name in train if name in files], test if test in files else None


def _content(
    layout: DatasetLayout,
    classes: tuple[str, ...],
    train: list[str],
    test: str | None,
    read: Callable[[str], LabelledImages],
    fit: Fit | None,
) -> DatasetContent:
    parts = [read(name) for name in train]
    whole = LabelledImages(
        np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts])
    )
    content = DatasetContent(layout, classes, whole, None if test is None else read(test))
    return content if fit is None else content.fitted(fit.images)


def _images(name: str, rows: NDArray[np.uint8], labels: list[int], classes: int) -> LabelledImages:
    """Images of rows of pixels (N, 3072)."""
    if len(labels) != len(rows):
        raise InvalidDataset(f"{name} has {len(rows)} images and {len(labels)} labels; {_AS_PUBLISHED}")
    wrong = next((label for label in labels if not 0 <= label < classes), None)
    if wrong is not None:
        raise InvalidDataset(f"{name} has the label {wrong}, where there are {classes} classes; {_AS_PUBLISHED}")
    images = np.ascontiguousarray(rows.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1))  # (N, 32, 32, 3)
    return LabelledImages(images, np.array(labels, dtype=np.int64))


def _dictionary(archive: Archive, files: Mapping[str, int], name: str) -> dict[Any, Any]:
    content = load_plain(archive.read(files[name]), name)
    if not isinstance(content, dict):
        raise InvalidDataset(f"{name} holds no dictionary; {_AS_PUBLISHED}")
    return content


def _entry(content: dict[Any, Any], key: str, name: str) -> Any:
    """Python 2 wrote keys as text that may be either; what was written anew by Python 3 may have bytes."""
    for spelling in (key, key.encode()):
        if spelling in content:
            return content[spelling]
    raise InvalidDataset(f"{name} has no `{key}`; {_AS_PUBLISHED}")


def _class_names(names: object) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise InvalidDataset(f"the names of the classes are no list; {_AS_PUBLISHED}")
    decoded = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
    check_classes(decoded)
    if len(decoded) < 2 or len(set(decoded)) != len(decoded):
        raise InvalidDataset(f"the names of the classes are not two at least, all different; {_AS_PUBLISHED}")
    return decoded
