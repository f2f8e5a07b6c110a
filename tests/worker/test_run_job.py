"""An attempt's writes while the database goes away in the midst of them, and while others delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.models import LOG_KIND
from db.queries import claims
from db.queries.claims import claim_job
from db.queries.deletion import delete_job
from db.queries.jobs import artifacts, events_after
from modelpress.spec.event import Progress, Warned
from modelpress.spec.report import Report
from modelpress.spec.state import JobState
from tests.worker.conftest import Site
from worker.run_job import _JobRun, take_job
from worker.starter import Spawner
from worker.work_folder import work_folder
from worker.workplace import Workplace


def _place(site: Site, behaviour: str) -> Workplace:
    command = tuple(site.engine(behaviour).split())
    settings = site.settings.model_copy(update={"engine_command": command})
    return Workplace(settings, site.database, site.store, Spawner(command), worker="w")


def test_a_job_whose_twin_was_deleted_in_the_last_moment_is_run(site: Site) -> None:
    first, second = (site.tenant.submit(site.store_model()) for _ in range(2))
    place = _place(site, "succeed")
    assert take_job(place)
    with site.database.session() as session:
        claimed = claim_job(session, "w", 60)
    assert claimed is not None
    assert claimed.twin is not None
    with site.database.session() as session:
        delete_job(session, site.tenant.team_id, first.id)
    # The bytes are dropped behind the rows: at this moment they are still there.
    assert all(map(site.store.exists, claimed.twin.files))
    assert _JobRun(place, claimed).run() == "succeeded"
    found = site.job(second)
    assert (found.state, found.reused_from, found.attempt) == (JobState.SUCCEEDED, None, 1)


def test_what_others_drop_until_it_is_named_is_put_again(embedded_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job with the very same files, its log among them, may be deleted in this moment."""
    site = embedded_site
    job = site.tenant.submit(site.store_model())
    succeed = claims.succeed
    dropped = []

    def succeed_later(session: Session, job_id: str, attempt: int, report: Report) -> bool:
        for file in artifacts(session, job_id):
            site.store.delete(file.sha256)
            dropped.append(file.kind)
        return succeed(session, job_id, attempt, report)

    monkeypatch.setattr(claims, "succeed", succeed_later)
    assert take_job(_place(site, "succeed"))
    assert {LOG_KIND, "compact"} <= set(dropped)
    with site.database.session(read_only=True) as session:
        assert all(site.store.exists(file.sha256) for file in artifacts(session, job.id))


@pytest.mark.parametrize("is_committed", [True, False])
def test_events_whose_commit_nobody_answered_are_written_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    job = site.tenant.submit(site.store_model())
    with site.database.session() as session:
        claimed = claim_job(session, "w", 60)
    assert claimed is not None
    run = _JobRun(Workplace(site.settings, site.database, site.store, Spawner(()), worker="w"), claimed)
    assert run._append([Warned(message="first")])
    opened = site.database.session

    @contextmanager
    def without_answer(**how: Any) -> Iterator[Session]:
        with opened(**how) as session:
            yield session
            if not is_committed:
                session.rollback()
        raise OperationalError("COMMIT", None, ConnectionError("it is gone"))

    last = Progress(stage="step", step=0, steps=1, step_kind="prune", fraction=0.5, epoch=1, epochs=2)
    with monkeypatch.context() as patched:
        patched.setattr(site.database, "session", without_answer)
        with pytest.raises(OperationalError):
            run._append([Warned(message="second"), last])
    assert run._append([Warned(message="second"), last])
    assert run._append([Warned(message="third")])
    with site.database.session(read_only=True) as session:
        told = [event.event for event in events_after(session, job.id, 0, 100) if event.kind != "state"]
    assert told == [Warned(message="first"), Warned(message="second"), last, Warned(message="third")]


def test_the_engine_is_told_what_is_set_for_all_jobs(site: Site) -> None:
    wanted = {"device": "cpu", "threads": 3, "processes": 2, "checkpoint_seconds": 7.0, "latency_seconds": 1.5}
    place = _place(site, "succeed")
    place = replace(place, settings=place.settings.model_copy(update=wanted))
    site.tenant.submit(site.store_model())
    with site.database.session() as session:
        claimed = claim_job(session, "w", 60)
    assert claimed is not None
    run = _JobRun(place, claimed)
    with run._heartbeat, work_folder(run._folder.parent, run._folder.name):
        task = run._lay_task()
    assert task.model_dump(include=wanted.keys()) == wanted
