"""A store in a folder of this machine.

    objects/ab/abcdef...   one file per object, read-only, named by its hash
    incoming/              what is being written
    turn                   its time: when somebody last took the turn to tidy up
    owner                  whose store it is

Both lie in one tree so that a commit is a rename: an object is there whole or not at all, after a power cut too.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage import spool
from storage.spool import SpooledFile, readable_errors
from storage.store import PIECE_BYTES, SHARDS, Kept, NotAHash, NotStored, Stored, Writer, require_hash, require_range


class LocalStore:
    """Objects as files under a folder, which is made where it is missing."""

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        with readable_errors(root):
            self._objects.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(parents=True, exist_ok=True)

    def put_file(self, path: Path) -> Stored:
        """Keep a copy of a file."""
        with self.open_writer() as writer:
            for piece in spool.pieces_of(path):
                writer.write(piece)
            return writer.commit()

    @contextmanager
    def open_writer(self) -> Iterator[Writer]:
        """Write a new object piece by piece."""
        writer = _LocalWriter(self._incoming, self._objects)
        try:
            yield writer
        finally:
            writer.discard()

    def exists(self, sha256: str) -> bool:
        """True when an object is kept under this hash."""
        return self._path(sha256).is_file()

    def size(self, sha256: str) -> int:
        """Bytes of an object."""
        return self._require(sha256).stat().st_size

    def look(self, sha256: str) -> Kept:
        """An object's size, and when it was put."""
        return _kept(sha256, self._require(sha256).stat())

    def shards(self) -> frozenset[str]:
        """What hashes of objects begin with."""
        with readable_errors(self._objects):
            return frozenset(path.name for path in self._objects.iterdir()).intersection(SHARDS)

    def list_shard(self, shard: str) -> Iterator[Kept]:
        """The objects whose hashes begin with `shard`."""
        for path in (self._objects / shard).glob("*"):
            # What was deleted meanwhile is no longer there; what is no hash is not ours.
            with suppress(NotAHash, FileNotFoundError):
                yield _kept(require_hash(path.name), path.stat())

    def now(self) -> datetime:
        """The time of the folder's file system, which need not be this machine's."""
        probe = SpooledFile(self._incoming)
        try:
            probe.write(b"?")
            return _moment(probe.path.stat())
        finally:
            probe.discard()

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, in pieces."""
        require_range(start, end)
        path = self._require(sha256)
        return _read(path, start, path.stat().st_size if end is None else end)

    def fetch(self, sha256: str, path: Path) -> None:
        """Lay an object at `path` as a file of its own.

        Copied, not hard-linked: whoever can write to the laid file (a hostile model's process, say) would write to
        the object too. The hash has to be checked anyway, which reads every byte.
        """
        spool.lay(lambda: spool.pieces_of(self._require(sha256)), sha256, path)

    def local_path(self, sha256: str) -> Path:
        """The object's own file."""
        return self._require(sha256)

    def delete(self, sha256: str) -> None:
        """Remove an object; nothing happens where there is none."""
        path = self._path(sha256)
        with readable_errors(path.parent):
            path.unlink(missing_ok=True)

    def check(self) -> None:
        """Write and remove something small; look whether the objects' folder is there."""
        with readable_errors(self._objects):
            self._objects.stat()
            self._incoming.stat()
        probe = SpooledFile(self._incoming)
        try:
            probe.write(b"?")
        finally:
            probe.discard()

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what broken-off writes left behind; gives how many files."""
        return spool.sweep(self._incoming, older_than_seconds)

    def owner(self) -> str | None:
        """Whose store it is."""
        with readable_errors(self._objects):
            try:
                return (self._objects.parent / "owner").read_text() or None
            except FileNotFoundError:
                return None

    def set_owner(self, name: str) -> None:
        """Note whose store it is."""
        with readable_errors(self._objects):
            # Whole or not at all, as it is read beside this.
            written = self._incoming / f"owner-{uuid.uuid4().hex}"
            written.write_text(name)
            written.replace(self._objects.parent / "owner")

    def take_turn(self, every_seconds: float) -> bool:
        """True once in so many seconds."""
        turn = self._objects.parent / "turn"
        with readable_errors(turn):
            if turn.exists() and self.now() - _moment(turn.stat()) < timedelta(seconds=every_seconds):
                return False
            turn.touch()
        return True

    def _path(self, sha256: str) -> Path:
        return self._objects / require_hash(sha256)[:2] / sha256

    def _require(self, sha256: str) -> Path:
        path = self._path(sha256)
        if not path.is_file():
            with readable_errors(self._objects):
                self._objects.stat()
            raise NotStored(f"nothing is stored under {sha256}")
        return path


class _LocalWriter(SpooledFile):
    def __init__(self, incoming: Path, objects: Path) -> None:
        super().__init__(incoming)
        self._objects = objects

    def commit(self) -> Stored:
        stored = Stored(sha256=self.sha256, size=self.size)
        self.prepare()
        folder = self._objects / stored.sha256[:2]
        with readable_errors(folder):
            folder.mkdir(exist_ok=True)
            self.path.chmod(0o440)
            os.utime(self.path)  # its age counts from here, however long the writing took
            # Renaming over an object of the same hash changes nothing: the bytes are the same.
            self.path.rename(folder / stored.sha256)
            _sync_folder(folder)
            _sync_folder(self._objects)
        return stored


def _kept(sha256: str, status: os.stat_result) -> Kept:
    return Kept(sha256=sha256, size=status.st_size, put_at=_moment(status))


def _moment(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once the folder that holds the name is.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = end - start
        while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
