"""The CIFAR archives with few images, written as their authors' programs wrote them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Python2Pickle:
    """What Python 2's cPickle writes with protocol 2: text as byte strings, and a memo of everything."""

    def __init__(self) -> None:
        self._memo = 0

    def dump(self, value: object) -> bytes:
        return b"\x80\x02" + self._value(value) + b"."

    def _put(self) -> bytes:
        self._memo += 1
        if self._memo < 256:
            return b"q" + bytes([self._memo])
        return b"r" + struct.pack("<I", self._memo)

    def _value(self, value: object) -> bytes:
        match value:
            case bool():
                return b"\x88" if value else b"\x89"
            case int() if 0 <= value < 256:
                return b"K" + bytes([value])
            case int() if 0 <= value < 65536:
                return b"M" + struct.pack("<H", value)
            case int():
                return b"J" + struct.pack("<i", value)
            case str() | bytes():
                data = value.encode() if isinstance(value, str) else value
                short = len(data) < 256
                return (
                    (b"U" + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data))) + data + self._put()
                )
            case list():
                return b"]" + self._put() + b"(" + b"".join(self._value(item) for item in value) + b"e"
            case dict():
                begin = b"}" + self._put() + b"("
                return begin + b"".join(self._value(key) + self._value(entry) for key, entry in value.items()) + b"u"
            case np.ndarray():
                return self._array(value)
        raise TypeError(type(value))

    def _array(self, array: np.ndarray) -> bytes:
        # numpy's arrays pickle as _reconstruct(ndarray, (0,), 'b') and a state.
        is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        rows, columns = array.shape
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + self._put() + b"cnumpy\nndarray\n" + self._put()
        made += b"K\x00\x85" + self._put() + b"U\x01b" + self._put() + b"\x87" + self._put() + b"R" + self._put()
        state = b"(K\x01" + self._value(rows) + self._value(columns) + b"\x86" + self._put()
        state += b"cnumpy\ndtype\n" + self._put() + b"U\x02u1" + self._put() + b"K\x00K\x01\x87" + self._put()
        state += b"R" + self._put() + b"(K\x03U\x01|" + self._put() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        state += self._put() + b"b" + self._value(is_fortran)
        return made + state + self._value(array.tobytes(order="A")) + b"t" + self._put() + b"b"


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Images of noise, uint8 (count, 32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows(images: np.ndarray) -> np.ndarray:
    """Images (N, 32, 32, 3) as the archives have them, (N, 3072): all of red by rows, then green, then blue."""
    return np.concatenate([images[..., channel].reshape(len(images), -1) for channel in range(3)], axis=1)


def cifar10_python(parts: Mapping[str, tuple[np.ndarray, list[int]]]) -> dict[str, bytes]:
    """Files of cifar-10-python.tar.gz: images and labels by name of the batch."""
    files = {}
    for name, (images, labels) in parts.items():
        content = {
            "batch_label": f"{name} of 5",
            "labels": labels,
            "data": rows(images),
            "filenames": [f"image_s_{index:06}.png" for index in range(len(labels))],
        }
        files[f"cifar-10-batches-py/{name}"] = Python2Pickle().dump(content)
    meta = {"num_cases_per_batch": 10000, "label_names": list(CLASSES), "num_vis": 3072}
    files["cifar-10-batches-py/batches.meta"] = Python2Pickle().dump(meta)
    files["cifar-10-batches-py/readme.html"] = b"<meta>"
    return files


def cifar100_python(parts: Mapping[str, tuple[np.ndarray, list[int]]], names: list[str]) -> dict[str, bytes]:
    """Files of cifar-100-python.tar.gz."""
    files = {}
    for name, (images, labels) in parts.items():
        content = {
            "filenames": [f"image_s_{index:06}.png" for index in range(len(labels))],
            "batch_label": f"{name} batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [label // 5 for label in labels],
            "data": rows(images),
        }
        files[f"cifar-100-python/{name}"] = Python2Pickle().dump(content)
    files["cifar-100-python/meta"] = Python2Pickle().dump({"fine_label_names": names, "coarse_label_names": ["a", "b"]})
    files["cifar-100-python/file.txt~"] = b""
    return files


def cifar10_binary(parts: Mapping[str, tuple[np.ndarray, list[int]]]) -> dict[str, bytes]:
    """Files of cifar-10-binary.tar.gz."""
    files = {
        f"cifar-10-batches-bin/{name}.bin": b"".join(
            bytes([label]) + row.tobytes() for label, row in zip(labels, rows(images), strict=True)
        )
        for name, (images, labels) in parts.items()
    }
    return files | {
        "cifar-10-batches-bin/batches.meta.txt": "\n".join([*CLASSES, "", ""]).encode(),
        "cifar-10-batches-bin/readme.html": b"<meta>",
    }


def cifar100_binary(parts: Mapping[str, tuple[np.ndarray, list[int]]], names: list[str]) -> dict[str, bytes]:
    """Files of cifar-100-binary.tar.gz."""
    files = {
        f"cifar-100-binary/{name}.bin": b"".join(
            bytes([label // 5, label]) + row.tobytes() for label, row in zip(labels, rows(images), strict=True)
        )
        for name, (images, labels) in parts.items()
    }
    return files | {
        "cifar-100-binary/fine_label_names.txt": "".join(f"{name}\n" for name in names).encode(),
        "cifar-100-binary/coarse_label_names.txt": b"a\nb\n",
    }
