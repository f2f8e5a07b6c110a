"""The bytes of a tar, unpacked on the way, whatever it was packed with; nothing is written to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from modelpress.engine.data.expansion import check_expansion
from modelpress.engine.data.limits import MAX_MEMBER_BYTES
from modelpress.spec.failure import InvalidDataset

# What a zstandard frame may ask for as its window: `zstd --ultra` and `--long` up to 27 keep to it.
_MOST_WINDOW_BYTES = 1 << 27
_SKIPPED_AT_ONCE = 1 << 20


class ZstdFile(io.RawIOBase):
    """A zstandard file, unpacked and seekable: to seek backwards it begins again, as gzip's, bz2's and lzma's do."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
        # A file may be several frames, one after the other: pzstd writes such.
        self._stream = decompressor.stream_reader(self._file, read_across_frames=True, closefd=False)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what io calls it with
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end is known only once it was read")
        target = offset + (self._place if whence == io.SEEK_CUR else 0)
        if target < self._place:
            self._begin()
        while self._place < target:
            data = self._stream.read(min(_SKIPPED_AT_ONCE, target - self._place))
            if not data:
                break
            self._place += len(data)
        return self._place

    def close(self) -> None:
        self._file.close()
        super().close()


class BoundedReads:
    """A file of which no more than MAX_MEMBER_BYTES are read at once: a tar's headers can declare any length.

    Where it is unpacked as it is read, from `stored` bytes, it is so no further than pictures ever are. Also what a
    header asks for in one piece (of pax, or a long name) is refused before it is unpacked.
    """

    def __init__(self, file: BinaryIO, stored: int | None = None) -> None:
        self._file = file
        self._stored = stored
        self.tell, self.close = file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises InvalidDataset."""
        if not 0 <= size <= MAX_MEMBER_BYTES:
            raise InvalidDataset(
                f"the tar has a header or a file of more than {MAX_MEMBER_BYTES >> 20} MiB; make it again, of images"
            )
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As the file does; what lies between is unpacked on the way. Raises InvalidDataset."""
        if whence == io.SEEK_SET:
            self._check(offset)
        return self._file.seek(offset, whence)

    def _check(self, end: int) -> None:
        if self._stored is not None:
            check_expansion(end, self._stored)


_OPENERS: dict[bytes, Callable[[Path], BinaryIO]] = {
    b"\x1f\x8b": lambda path: cast(BinaryIO, gzip.GzipFile(path)),
    b"BZh": lambda path: cast(BinaryIO, bz2.BZ2File(path)),
    b"\xfd7zXZ": lambda path: cast(BinaryIO, lzma.LZMAFile(path)),  # noqa: SIM115  # closed by whoever opened it
    b"\x28\xb5\x2f\xfd": lambda path: cast(BinaryIO, ZstdFile(path)),
}


def open_unpacked(path: Path) -> BoundedReads:
    """The tar's own bytes: of a plain file, or of what gzip, bzip2, xz or zstandard packed."""
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    if opener is None:
        return BoundedReads(path.open("rb"))
    return BoundedReads(opener(path), path.stat().st_size)
