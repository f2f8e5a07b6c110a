"""Waiting for jobs to change, without a server."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import SQLAlchemyError

from api import changes
from db.queries.claims import append_events, claim_job
from db.queries.jobs import standing
from modelpress.spec.event import Warned
from tests.support.rows import new_tenant


@pytest.fixture
def dialect():
    return "sqlite"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(changes, "LOOK_SECONDS", 0.01)


def _job(database):
    tenant = new_tenant(database)
    tenant.submit(tenant.upload_model())
    with database.session() as session:
        job = claim_job(session, "worker", 60)
    with database.session(read_only=True) as session:
        return job.id, standing(session, tenant.team_id, job.id)[0]


def test_all_who_wait_are_woken_by_one_question(database, monkeypatch):
    """And those who wait for another job go on waiting."""
    (changing, version), (quiet, other) = _job(database), _job(database)
    asked = []
    real = changes.Watch._versions
    monkeypatch.setattr(changes.Watch, "_versions", lambda self, ids: asked.append(sorted(ids)) or real(self, ids))

    async def wait():
        watch = changes.Watch(database)
        waiting = [asyncio.ensure_future(watch.change(changing, version)) for _ in range(100)]
        idle = asyncio.ensure_future(watch.change(quiet, other))
        while not asked:
            await asyncio.sleep(0.01)
        assert not any(each.done() for each in waiting)
        with database.session() as session:
            assert append_events(session, changing, 1, [Warned(message="a warning")])
        looks = len(asked)
        await asyncio.wait_for(asyncio.gather(*waiting), 30)
        assert len(asked) - looks < 10
        assert asked[0] == sorted([changing, quiet])
        assert not idle.done()
        await watch.close()
        idle.cancel()

    asyncio.run(wait())


def test_a_job_that_is_gone_is_a_change(database):
    async def wait():
        await asyncio.wait_for(changes.Watch(database).change("job_x", 1), 30)

    asyncio.run(wait())


def test_who_waits_hears_that_the_database_is_away(database, monkeypatch):
    def broken(_watch, _ids):
        raise SQLAlchemyError("away")

    monkeypatch.setattr(changes.Watch, "_versions", broken)

    async def wait():
        with pytest.raises(SQLAlchemyError, match="away"):
            await changes.Watch(database).change("job_x", 1)

    asyncio.run(wait())
