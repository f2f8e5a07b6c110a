"""An attempt's writes while the database goes away in the midst of them, and while others delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.queries.claims import claim_job
from db.queries.deletion import delete_job
from db.queries.jobs import events_after
from modelpress.spec.event import Progress, Warned
from modelpress.spec.state import JobState
from tests.worker.conftest import Site
from worker.run_job import _JobRun, take_job
from worker.starter import Spawner
from worker.workplace import Workplace


def test_a_job_whose_twin_was_deleted_in_the_last_moment_is_run(site: Site) -> None:
    first, second = (site.tenant.submit(site.store_model()) for _ in range(2))
    command = tuple(site.engine("succeed").split())
    settings = site.settings.model_copy(update={"engine_command": command})
    place = Workplace(settings, site.database, site.store, Spawner(command), worker="w")
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
