"""What a test does to a store that no program of ours does."""

from __future__ import annotations

import hashlib

import obstore

from storage.local import LocalStore
from storage.s3 import S3Store
from storage.store import Store


def content_of(size: int, seed: int = 0) -> bytes:
    """So many bytes that nothing else has."""
    return hashlib.shake_256(str(seed).encode()).digest(size)


def put(store: Store, content: bytes) -> str:
    """Keep bytes; gives their hash."""
    with store.open_writer() as writer:
        writer.write(content)
        return writer.commit().sha256


def damage(store: Store, sha256: str, content: bytes) -> None:
    """Have other bytes kept under a hash, as a bad disk would."""
    if isinstance(store, LocalStore):
        path = store.local_path(sha256)
        path.chmod(0o600)
        path.write_bytes(content)
    else:
        assert isinstance(store, S3Store)
        obstore.put(store._bucket, f"objects/{sha256[:2]}/{sha256}", content)
