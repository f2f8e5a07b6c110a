"""Bytes that no row names any more, dropped from the store.

Rows go first, by a commit of their own, and bytes after it: what breaks off in between leaves bytes without a row,
which are only room lost until they are dropped later, and never a row without bytes, which is a file lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.database import Database
from db.queries.stored_bytes import Holder, holders, is_needed
from db.queries.uploads import hold_bytes_unless_held
from storage.store import Kept, NotStored, StorageError, Store

log = structlog.stdlib.get_logger(__name__)


GRACE_SECONDS = 86_400.0
"""Bytes younger than this may be those of a job that has not said yet what it made: they are left alone."""


@dataclass(frozen=True)
class Shard:
    """The bytes whose hashes begin alike, as the store and the rows have them."""

    kept: dict[str, Kept]  # by hash
    named: dict[str, list[Holder]]  # by hash

    def unneeded(self, put_before: datetime) -> list[Kept]:
        """What no row names and nobody has put of late."""
        return [kept for sha256, kept in self.kept.items() if sha256 not in self.named and kept.put_at < put_before]


def read_shard(database: Database, store: Store, shard: str, *, is_empty: bool = False) -> Shard:
    """One of the store's SHARDS, which is not listed where it is known to be empty.

    Both sides go on changing: look again under the lock before acting upon it.
    """
    kept = {} if is_empty else {found.sha256: found for found in store.list_shard(shard)}
    named: dict[str, list[Holder]] = {}
    with database.session(read_only=True) as session:
        for holder in holders(session, shard):
            named.setdefault(holder.sha256, []).append(holder)
    return Shard(kept, named)


def drop_unneeded(database: Database, store: Store, sha256: str, *, put_before: datetime | None = None) -> bool:
    """Drop the bytes unless a row names them, or they were put later than `put_before`; True when they are dropped.

    The lock on the hash keeps an upload of the very same bytes waiting, which then puts them again. What somebody else
    is dropping or storing at the moment is left to whoever looks next. Raises StoreUnavailable.
    """
    with database.session() as session:
        if not hold_bytes_unless_held(session, sha256) or is_needed(session, sha256):
            return False
        if put_before is not None and not _is_older(store, sha256, put_before):
            return False
        store.delete(sha256)
    return True


def drop_after_delete(database: Database, store: Store, *hashes: str) -> None:
    """Drop the bytes that rows named which are deleted now.

    The deletion stands whatever becomes of the bytes, so what keeps them is logged, not raised, and the rest is left
    for later: a store that does not answer is not asked for each.
    """
    for place, sha256 in enumerate(hashes):
        try:
            drop_unneeded(database, store, sha256)
        except (StorageError, SQLAlchemyError) as error:
            log.warning("bytes_not_dropped", sha256=hashes[place:], error=f"{type(error).__name__}: {error}")
            return


def sweep_shard(database: Database, store: Store, shard: str, put_before: datetime) -> list[str]:
    """Drop the bytes of a shard that no row names, unless they were put later; gives their hashes."""
    return [
        kept.sha256
        for kept in read_shard(database, store, shard).unneeded(put_before)
        if drop_unneeded(database, store, kept.sha256, put_before=put_before)
    ]


def _is_older(store: Store, sha256: str, put_before: datetime) -> bool:
    try:
        return store.look(sha256).put_at < put_before
    except NotStored:
        return False
