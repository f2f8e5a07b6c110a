"""A store belongs to one database; no other removes what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.database import Database
from db.queries.teams import create_team
from service.store_owner import ForeignStore, require_own_store, take_over_store
from storage.local import LocalStore
from storage.store import Store
from tests.conftest import opened
from tests.support.rows import new_tenant


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def other(sqlite_template: Path, tmp_path: Path) -> Database:
    """Another database, with a team of the same name."""
    path = tmp_path / "other.db"
    path.write_bytes(sqlite_template.read_bytes())
    with opened(f"sqlite:///{path}") as database:
        new_tenant(database)
        return database


def test_it_becomes_that_of_the_first_database_that_tidies_up(
    database: Database, other: Database, store: Store
) -> None:
    first = new_tenant(database).team_id
    require_own_store(database, store)
    assert store.owner() == first
    with database.session() as session:
        create_team(session, "later")
    require_own_store(database, store)
    assert store.owner() == first
    with pytest.raises(ForeignStore, match=rf"belongs to another database, one with the team {first}: nothing"):
        require_own_store(other, store)
    assert store.owner() == first


def test_a_database_without_a_team_owns_nothing(database: Database, store: Store) -> None:
    for ask in (require_own_store, take_over_store):
        with pytest.raises(ForeignStore, match="has no team"):
            ask(database, store)
    assert store.owner() is None


def test_it_can_be_taken_over(database: Database, other: Database, store: Store) -> None:
    new_tenant(database)
    require_own_store(database, store)
    assert take_over_store(other, store) == store.owner()
    require_own_store(other, store)
    with pytest.raises(ForeignStore):
        require_own_store(database, store)
