"""Files on their way into a store: written under a name that nobody looks for, hashed while they are written."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.store import PIECE_BYTES, Corrupt, StoreFull, StoreUnavailable

log = logging.getLogger(__name__)

_SUFFIX = ".part"


class SpooledFile:
    """A temporary file in an existing folder, its size and its hash.

    The folder is not made here: where a disk is no longer mounted, nothing should be written beneath its place.
    """

    def __init__(self, folder: Path) -> None:
        with readable_errors(folder):
            handle, name = tempfile.mkstemp(suffix=_SUFFIX, dir=folder)
        self._handle = handle
        self._hash = hashlib.sha256()
        self.path = Path(name)
        self.size = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far."""
        return self._hash.hexdigest()

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append. Raises StoreFull."""
        rest = memoryview(piece)
        self._hash.update(rest)
        self.size += rest.nbytes
        with readable_errors(self.path.parent):
            while rest.nbytes:
                rest = rest[os.write(self._handle, rest) :]

    def prepare(self) -> None:
        """Have the bytes on the disk itself, all of them."""
        with readable_errors(self.path.parent):
            os.fsync(self._handle)
            kept = os.fstat(self._handle).st_size
        if kept != self.size:
            raise StoreUnavailable(f"{self.path.parent} kept {kept} of {self.size} bytes: look at its disk")

    def discard(self) -> None:
        """Close, and remove the file where it still has its temporary name."""
        os.close(self._handle)
        self.path.unlink(missing_ok=True)


@contextmanager
def readable_errors(place: Path) -> Iterator[None]:
    """Turn errors of the operating system into the store's own."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"no room left in {place}: free some space there") from error
        raise StoreUnavailable(f"{place} cannot be used: {error.strerror or error}") from error


def pieces_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, piece by piece."""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def lay(read: Callable[[], Iterator[bytes]], sha256: str, path: Path) -> None:
    """Write what `read` gives as a new file at `path`. Raises Corrupt, and leaves no file, when it has another hash.

    It is read once more before that: a body that was cut short or mangled on its way is no damage to what is kept.
    """
    for tries_left in (1, 0):
        spooled = SpooledFile(path.parent)
        try:
            for piece in read():
                spooled.write(piece)
            if spooled.sha256 == sha256:
                with readable_errors(path.parent):
                    spooled.path.rename(path)
                return
        finally:
            spooled.discard()
        if tries_left:
            log.warning("%s came as %s, %d bytes; reading it once more", sha256, spooled.sha256, spooled.size)
    raise Corrupt(f"what is stored as {sha256} has the hash {spooled.sha256}: upload it again")


def sweep(folder: Path, older_than_seconds: float) -> int:
    """Remove temporary files that nobody wrote to for so long; gives how many."""
    oldest = time.time() - older_than_seconds
    removed = 0
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime <= oldest:
                path.unlink()
                removed += 1
    return removed
