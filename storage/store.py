"""What a store is: bytes kept under the SHA-256 of their content.

Two uploads of the same bytes are one object. An object is either there whole or not there: what is written becomes
visible only by `commit`. Names are hashes and nothing else, so no caller can reach outside the store by a name.

    StorageError
    +-- NotStored          nothing is kept under this hash
    +-- NotAHash           the name is not 64 lower-case hexadecimal digits
    +-- Corrupt            what is kept under this hash is something else
    +-- StoreFull          the disk has no room left
    +-- StoreUnavailable   the store cannot be reached, or refuses
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

PIECE_BYTES = 1 << 20
"""How much is read or written at a time, bytes."""

RENEW_SECONDS = 3600.0
"""An object that is put again is younger than this afterwards, so that whoever removes old ones leaves it alone."""

SHARD_DIGITS = 2
SHARDS = tuple(f"{number:0{SHARD_DIGITS}x}" for number in range(16**SHARD_DIGITS))
"""What hashes begin with: a store is listed by these, so that no list of all it keeps need fit into memory."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class StorageError(Exception):
    """Something is wrong with the store or with what was asked of it."""


class NotStored(StorageError):
    """Nothing is kept under this hash."""


class NotAHash(StorageError, ValueError):
    """The name is not 64 lower-case hexadecimal digits."""


class Corrupt(StorageError):
    """What is kept under this hash is something else."""


class StoreFull(StorageError):
    """The disk has no room left."""


class StoreUnavailable(StorageError):
    """The store cannot be reached, or refuses."""


@dataclass(frozen=True)
class Stored:
    """What a commit put into the store."""

    sha256: str  # 64 lower-case hexadecimal digits: the object's name
    size: int  # bytes


@dataclass(frozen=True)
class Kept:
    """An object as the store shows it, without reading it."""

    sha256: str  # what its bytes should have
    size: int  # bytes
    put_at: datetime  # when it was last put, by the store's clock


class Writer(Protocol):
    """One object while it is written. Leaving its `with` block without `commit` leaves nothing behind."""

    @property
    def path(self) -> Path:
        """The bytes so far as a file on this machine, to look into before the commit. Never to be written to."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far."""

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append. Raises StoreFull."""

    def prepare(self) -> None:
        """Do the slow part of `commit` ahead, so that the commit itself is short; nothing more is written after it.

        Broken off after this, a store elsewhere may keep an object that nothing refers to.
        """

    def commit(self) -> Stored:
        """Make the object durable and visible, once. Raises StoreFull, StoreUnavailable."""


class Store(Protocol):
    """A place for bytes. Safe to share between threads.

    Every method that takes a hash raises NotAHash for anything else, and NotStored where nothing is kept under it
    (but `exists` and `delete`, which do not mind); all raise StoreUnavailable when the store cannot be reached.
    """

    def put_file(self, path: Path) -> Stored:
        """Keep a copy of a file."""

    def open_writer(self) -> AbstractContextManager[Writer]:
        """Write a new object piece by piece."""

    def exists(self, sha256: str) -> bool:
        """True when an object is kept under this hash."""

    def size(self, sha256: str) -> int:
        """Bytes of an object."""

    def look(self, sha256: str) -> Kept:
        """An object's size, and when it was put."""

    def shards(self) -> frozenset[str]:
        """Those of SHARDS that hold something (or held it once)."""

    def list_shard(self, shard: str) -> Iterator[Kept]:
        """The objects whose hashes begin with `shard`, one of SHARDS, in any order."""

    def now(self) -> datetime:
        """The store's own time, by which objects are old or young: clocks of machines may differ."""

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end` (not with it; None and what lies past the end mean the end), in pieces."""

    def fetch(self, sha256: str, path: Path) -> None:
        """Lay an object at `path` as a file of its own, in an existing folder.

        Raises Corrupt, and leaves no file, when the bytes do not have the hash; they are read twice before that.
        """

    def local_path(self, sha256: str) -> Path | None:
        """The object's own file, for a web server to send; None where the store is not a folder of this machine."""

    def delete(self, sha256: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def check(self) -> None:
        """Write and remove something small. Raises StoreUnavailable or StoreFull when that fails."""

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what broken-off writes left behind and nobody touched for so long; gives how many there were."""

    def owner(self) -> str | None:
        """What `set_owner` has noted; None before."""

    def set_owner(self, name: str) -> None:
        """Note whose store it is, whoever it was before."""

    def take_turn(self, every_seconds: float) -> bool:
        """True once in so many seconds for all processes that share the store (for two that ask at once, twice)."""


def require_hash(sha256: str) -> str:
    """The argument itself. Raises NotAHash unless it is 64 lower-case hexadecimal digits."""
    if not _SHA256.fullmatch(sha256):
        raise NotAHash(f"{sha256!r} is not a SHA-256: 64 lower-case hexadecimal digits are expected")
    return sha256


def require_range(start: int, end: int | None) -> None:
    """Raises ValueError for positions before the object's first byte."""
    if start < 0 or (end is not None and end < 0):
        raise ValueError(f"range {start}..{end}: positions count from the first byte and are never negative")
