"""Bytes that no row names any more, dropped from the store.

Rows go first, by a commit of their own, and bytes after it: what breaks off in between leaves bytes without a row,
which are only room lost until they are dropped later, and never a row without bytes, which is a file lost.
"""

from __future__ import annotations

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.database import Database
from db.queries.stored_bytes import is_needed
from db.queries.uploads import hold_bytes
from storage.store import StorageError, Store

log = structlog.stdlib.get_logger(__name__)


def drop_unneeded(database: Database, store: Store, sha256: str) -> bool:
    """Drop the bytes unless a row names them; True when none did. Raises StoreUnavailable.

    The lock on the hash keeps an upload of the very same bytes waiting, which then puts them again.
    """
    with database.session() as session:
        hold_bytes(session, sha256)
        if is_needed(session, sha256):
            return False
        store.delete(sha256)
    return True


def drop_after_delete(database: Database, store: Store, sha256: str) -> None:
    """Drop the bytes that a row named which is deleted now.

    The deletion stands whatever becomes of the bytes, so what keeps them is logged, not raised.
    """
    try:
        drop_unneeded(database, store, sha256)
    except (StorageError, SQLAlchemyError) as error:
        log.warning("bytes_not_dropped", sha256=sha256, error=f"{type(error).__name__}: {error}")
