"""Whose store it is: that of one database, which alone can say what is not needed there.

To any other database all that lies in the store looks like what nobody names. So the store remembers a team of the
database that uses it: teams are never deleted, and their ids are drawn at random.
"""

from __future__ import annotations

from db.database import Database
from db.queries.teams import find_oldest_team, get_team
from storage.store import StorageError, Store


class ForeignStore(StorageError):
    """The store is another database's, so that nothing may be removed for want of a row here."""


def require_own_store(database: Database, store: Store) -> None:
    """Make sure that the store is this database's; one that is nobody's becomes its own.

    Raises ForeignStore, also while the database has no team: it names nothing then. Raises StoreUnavailable.
    """
    owner = store.owner()
    if owner is None:
        take_over_store(database, store)
        return
    with database.session(read_only=True) as session:
        is_known = get_team(session, owner) is not None
    if not is_known:
        raise ForeignStore(
            f"the store belongs to another database, one with the team {owner}: nothing is removed from it. Give "
            "each database a store of its own; if that one is gone for good, `python -m service.admin "
            "check-storage --take-over` makes the store this one's"
        )


def take_over_store(database: Database, store: Store) -> str:
    """Make the store this database's, whosever it was; gives the id of the team that stands for it.

    Raises ForeignStore where the database has no team, StoreUnavailable.
    """
    with database.session(read_only=True) as session:
        oldest = find_oldest_team(session)
    if oldest is None:
        raise ForeignStore(
            "the database has no team, so that it names nothing and nothing is removed from the store; `create-key` "
            "makes one"
        )
    store.set_owner(oldest.id)
    return oldest.id
