"""A store in a bucket of an S3-compatible service.

The name of an object is the hash of its content, which is known only after the last byte. So bytes are spooled into
a temporary file here while they are hashed, and go to the bucket in parts at the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from storage import spool
from storage.spool import SpooledFile, readable_errors
from storage.store import (
    PIECE_BYTES,
    RENEW_SECONDS,
    SHARDS,
    Kept,
    NotAHash,
    NotStored,
    Stored,
    StoreUnavailable,
    Writer,
    require_hash,
    require_range,
)

_PART_BYTES = 8 << 20
# With parts of 8 MiB this holds the memory of one upload under 40 MiB; more at once is no faster on one connection's
# worth of bandwidth.
_PARTS_AT_ONCE = 4
# How often a file is sent that the service took and then does not have, or not all of.
_SENDS = 2


@dataclass(frozen=True)
class S3Credentials:
    """Who we are to the service."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


class S3Store:
    """Objects in a bucket, under `<prefix>/objects/ab/<sha256>`. The bucket must exist."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        spool_folder: Path,
        endpoint: str | None = None,
        region: str | None = None,
        credentials: S3Credentials | None = None,
    ) -> None:
        # Without credentials those of the machine are taken (instance role, container role).
        config = {"endpoint": endpoint, "region": region or "us-east-1"}
        if credentials is not None:
            config["access_key_id"] = credentials.access_key_id
            config["secret_access_key"] = credentials.secret_access_key
        self._where = f"s3://{bucket}/{prefix}" + (f" at {endpoint}" if endpoint else "")
        self._bucket = Bucket(
            bucket,
            prefix=prefix or None,
            config={key: value for key, value in config.items() if value},  # type: ignore[arg-type]  # keys as typed
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=60),
                # One request may carry a whole download; the default limit of 30 s is for small ones.
                "timeout": timedelta(hours=6),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
        )
        self._spool_folder = spool_folder
        with readable_errors(spool_folder):
            spool_folder.mkdir(parents=True, exist_ok=True)

    def put_file(self, path: Path) -> Stored:
        """Keep a copy of a file."""
        with self.open_writer() as writer:
            for piece in spool.pieces_of(path):
                writer.write(piece)
            return writer.commit()

    @contextmanager
    def open_writer(self) -> Iterator[Writer]:
        """Write a new object piece by piece."""
        writer = _S3Writer(self._spool_folder, self)
        try:
            yield writer
        finally:
            writer.discard()

    def exists(self, sha256: str) -> bool:
        """True when an object is kept under this hash."""
        try:
            self.size(sha256)
        except NotStored:
            return False
        return True

    def size(self, sha256: str) -> int:
        """Bytes of an object."""
        return self.look(sha256).size

    def look(self, sha256: str) -> Kept:
        """An object's size, and when it was put."""
        key = _key(sha256)
        with self._readable_errors(sha256):
            found = obstore.head(self._bucket, key)
        return Kept(sha256=sha256, size=found["size"], put_at=found["last_modified"])

    def shards(self) -> frozenset[str]:
        """What hashes of objects begin with."""
        with self._readable_errors("objects"):
            found = obstore.list_with_delimiter(self._bucket, "objects")["common_prefixes"]
        return frozenset(prefix.rpartition("/")[2] for prefix in found).intersection(SHARDS)

    def list_shard(self, shard: str) -> Iterator[Kept]:
        """The objects whose hashes begin with `shard`."""
        with self._readable_errors(f"{shard}..."):
            for page in obstore.list(self._bucket, f"objects/{shard}"):
                for found in page:
                    # What is no hash is not ours.
                    with suppress(NotAHash):
                        sha256 = require_hash(found["path"].rpartition("/")[2])
                        yield Kept(sha256=sha256, size=found["size"], put_at=found["last_modified"])

    def now(self) -> datetime:
        """The service's time, taken from an object that it has just been given."""
        with self._readable_errors("probe"):
            obstore.put(self._bucket, "probe", b"?")
            return obstore.head(self._bucket, "probe")["last_modified"]

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, in pieces."""
        require_range(start, end)
        size = self.size(sha256)
        return self._read(sha256, start, size if end is None else min(end, size))

    def fetch(self, sha256: str, path: Path) -> None:
        """Lay an object at `path` as a file."""
        spool.lay(lambda: self.read(sha256), sha256, path)

    def local_path(self, sha256: str) -> None:
        """None: the bytes are elsewhere."""
        require_hash(sha256)

    def delete(self, sha256: str) -> None:
        """Remove an object; nothing happens where there is none."""
        key = _key(sha256)
        with self._readable_errors(sha256):
            try:
                obstore.delete(self._bucket, key)
            except FileNotFoundError:
                # Some services answer so, others are silent.
                return

    def check(self) -> None:
        """Write and remove something small, in the spool folder and in the bucket."""
        probe = SpooledFile(self._spool_folder)
        try:
            probe.write(b"?")
        finally:
            probe.discard()
        self.now()

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what broken-off writes left in the spool folder; gives how many files.

        Parts in the bucket are left to a rule of its life cycle.
        """
        return spool.sweep(self._spool_folder, older_than_seconds)

    def owner(self) -> str | None:
        """Whose store it is."""
        with self._readable_errors("owner"):
            try:
                return bytes(obstore.get(self._bucket, "owner").bytes()).decode() or None
            except FileNotFoundError:
                return None

    def set_owner(self, name: str) -> None:
        """Note whose store it is."""
        with self._readable_errors("owner"):
            obstore.put(self._bucket, "owner", name.encode())

    def take_turn(self, every_seconds: float) -> bool:
        """True once in so many seconds."""
        with self._readable_errors("turn"):
            try:
                taken_at = obstore.head(self._bucket, "turn")["last_modified"]
            except FileNotFoundError:
                taken_at = None
            if taken_at is not None and self.now() - taken_at < timedelta(seconds=every_seconds):
                return False
            obstore.put(self._bucket, "turn", b"")
        return True

    def upload(self, path: Path, sha256: str, size: int) -> None:
        """Send a file of this machine under its hash; nothing is visible before the last part is there.

        An old object of this hash is replaced: it is young then, and whole if it was damaged.
        """
        if self.holds(sha256, size) and self.now() - self.look(sha256).put_at < timedelta(seconds=RENEW_SECONDS):
            return
        for _ in range(_SENDS):
            # Each part is signed together with its hash, which the service compares. What it made of all is seen after.
            with self._readable_errors(sha256):
                obstore.put(self._bucket, _key(sha256), path, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
            if self.holds(sha256, size):
                return
        raise StoreUnavailable(f"{self._where} did not keep all {size} bytes of {sha256}, sent {_SENDS} times")

    def holds(self, sha256: str, size: int) -> bool:
        """True when an object of this hash and size is there."""
        try:
            return self.size(sha256) == size
        except NotStored:
            return False

    def _read(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        if start >= end:
            return
        with self._readable_errors(sha256):
            result = obstore.get(self._bucket, _key(sha256), options={"range": (start, end)})
            for piece in result.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    @contextmanager
    def _readable_errors(self, sha256: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            # A missing bucket looks the same as a missing object to some calls, but not to this one's text.
            if "NoSuchBucket" in str(error):
                raise StoreUnavailable(f"{self._where}: there is no such bucket; make it first") from error
            raise NotStored(f"nothing is stored under {sha256}") from error
        except BaseError as error:
            raise StoreUnavailable(f"{self._where} cannot be used: {_first_line(error)}") from error


class _S3Writer(SpooledFile):
    def __init__(self, folder: Path, store: S3Store) -> None:
        super().__init__(folder)
        self._store = store
        self._is_sent = False

    def prepare(self) -> None:
        self._store.upload(self.path, self.sha256, self.size)
        self._is_sent = True

    def commit(self) -> Stored:
        # Sent already when it was prepared, unless somebody has deleted the same bytes since.
        if not (self._is_sent and self._store.holds(self.sha256, self.size)):
            self.prepare()
        return Stored(sha256=self.sha256, size=self.size)


def _key(sha256: str) -> str:
    return f"objects/{require_hash(sha256)[:2]}/{sha256}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
