"""Bytes go after the row that named them, and never before."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from db.database import Database
from db.models import Base
from db.queries.claims import add_artifact, claim_job
from db.queries.stored_bytes import HOLDERS
from db.queries.uploads import create_dataset, delete_model
from service.stored_bytes import GRACE_SECONDS, drop_after_delete, drop_unneeded, sweep_shard
from storage.local import LocalStore
from storage.store import Store, StoreUnavailable
from tests.support.rows import Tenant, any_sha256, new_tenant
from tests.support.stores import put

# Its `sha256` is that of a key's text.
NAME_NO_BYTES = {"api_keys"}


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def test_every_table_that_names_bytes_holds_them() -> None:
    naming = {table.name for table in Base.metadata.tables.values() if "sha256" in table.columns}
    assert {table.__tablename__ for table in HOLDERS} == naming - NAME_NO_BYTES


def test_bytes_are_dropped_with_the_last_row_that_names_them(tenant: Tenant, store: Store) -> None:
    database = tenant.database
    sha256 = put(store, b"weights")
    first, second = tenant.upload_model(sha256=sha256), tenant.upload_model(sha256=sha256)
    with database.session() as session:
        assert delete_model(session, tenant.team_id, first.id) == sha256
    assert not drop_unneeded(database, store, sha256)
    assert store.exists(sha256)
    with database.session() as session:
        delete_model(session, tenant.team_id, second.id)
    assert drop_unneeded(database, store, sha256)
    assert not store.exists(sha256)


@pytest.mark.parametrize("holder", ["dataset", "artifact"])
def test_bytes_that_a_row_of_another_kind_names_are_kept(tenant: Tenant, store: Store, holder: str) -> None:
    database, sha256 = tenant.database, put(store, b"weights")
    if holder == "dataset":
        tenant.upload_dataset(sha256=sha256)
    else:
        job = tenant.submit(tenant.upload_model())
        with database.session() as session:
            claim_job(session, "w", 30)
            assert add_artifact(
                session, job.id, 1, kind="compact", filename="model.mpz", size=7, sha256=sha256, content_type="x/y"
            )
    assert not drop_unneeded(database, store, sha256)
    assert store.exists(sha256)


def test_a_sweep_drops_what_is_old_and_unnamed(tenant: Tenant, store: Store) -> None:
    named, left = put(store, b"named"), put(store, b"of a dead attempt")
    tenant.upload_model(sha256=named)
    now = store.now()

    def sweep(put_before: datetime) -> list[str]:
        return [sha256 for shard in store.shards() for sha256 in sweep_shard(tenant.database, store, shard, put_before)]

    assert sweep(now - timedelta(seconds=GRACE_SECONDS)) == []
    assert store.exists(left)
    assert sweep(now + timedelta(seconds=60)) == [left]
    assert not store.exists(left)
    assert store.exists(named)


def test_bytes_that_were_put_again_while_the_store_was_listed_are_kept(tenant: Tenant, store: Store) -> None:
    sha256 = put(store, b"result")
    put_at = store.look(sha256).put_at
    assert not drop_unneeded(tenant.database, store, sha256, put_before=put_at)
    assert not drop_unneeded(tenant.database, store, any_sha256(), put_before=put_at)  # gone by itself
    assert store.exists(sha256)


def test_a_deletion_that_is_not_committed_costs_no_bytes(tenant: Tenant, store: Store) -> None:
    database, sha256 = tenant.database, put(store, b"weights")
    model = tenant.upload_model(sha256=sha256)
    with suppress(ConnectionResetError), database.session() as session:
        delete_model(session, tenant.team_id, model.id)
        raise ConnectionResetError  # in the place of the commit
    assert not drop_unneeded(database, store, sha256)
    assert store.exists(sha256)


def test_who_publishes_bytes_waits_for_who_drops_them(tenant: Tenant, store: Store) -> None:
    """An upload of the very bytes that are being dropped goes on only when they are gone, and so puts them again."""
    database, sha256 = tenant.database, put(store, b"weights")
    dropping, started = threading.Event(), threading.Event()
    order: list[str] = []

    class Slow(LocalStore):
        def __init__(self) -> None:
            """Keeps nothing by itself."""

        def delete(self, sha256: str) -> None:
            dropping.set()
            started.wait()
            thread.join(timeout=0.3)
            store.delete(sha256)
            order.append("dropped")

    def upload_the_same() -> None:
        dropping.wait()
        started.set()
        with database.session() as session:
            create_dataset(session, tenant.team_id, name="", sha256=sha256, size=7)
            order.append("published")
            put(store, b"weights")

    thread = threading.Thread(target=upload_the_same)
    thread.start()
    assert drop_unneeded(database, Slow(), sha256)
    thread.join()
    assert order == ["dropped", "published"]
    assert store.exists(sha256)


def test_a_store_that_is_away_takes_no_deletion_back(tenant: Tenant) -> None:
    class Away(LocalStore):
        def __init__(self) -> None:
            """Keeps nothing."""

        def delete(self, sha256: str) -> None:
            raise StoreUnavailable("the store cannot be used: no route to it")

    with pytest.raises(StoreUnavailable):
        drop_unneeded(tenant.database, Away(), "a" * 64)
    drop_after_delete(tenant.database, Away(), "a" * 64)
