"""An attempt's writes while the database goes away in the midst of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.queries.claims import claim_job
from db.queries.jobs import events_after
from modelpress.spec.event import Progress, Warned
from tests.worker.conftest import Site
from worker.run_job import _JobRun
from worker.starter import Spawner
from worker.workplace import Workplace


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
