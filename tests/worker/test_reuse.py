"""Work that is not done twice, by a real worker; the engine is a script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db.database import Database
from db.models import Job, StepResult
from db.queries.jobs import attempts, create_job
from modelpress.spec.state import JobState
from modelpress.spec.steps import Prune, Quantize, Step
from tests.support.rows import spec_for
from tests.worker.conftest import Site, wait_for
from tests.worker.test_jobs import FINAL, _artifacts, _events, _log
from worker.checkpoint_keeper import clear_checkpoints
from worker.step_results import clear_step_results

pytestmark = pytest.mark.slow

QUICK = {"poll_seconds": 0.2, "lease_seconds": 60}
FIRST: tuple[Step, ...] = (Prune(sparsity=0.5),)
SECOND: tuple[Step, ...] = (*FIRST, Quantize(bits=8))
THIRD: tuple[Step, ...] = (*SECOND, Prune(sparsity=0.9))


def _submit(site: Site, steps: tuple[Step, ...], **more: Any) -> Job:
    spec = spec_for(site.store_model(), **more).model_copy(update={"steps": steps})
    with site.database.session() as session:
        return create_job(session, site.tenant.team_id, spec)[0]


def _began_with(site: Site, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_log(site, job).splitlines()[0])
    return found


def _results(database: Database) -> list[tuple[int, str]]:
    with database.session(read_only=True) as session:
        return [
            (row.steps, row.sha256)
            for row in session.scalars(select(StepResult).where(~StepResult.superseded).order_by(StepResult.id))
        ]


def _done(site: Site, job: Job) -> Job:
    found = site.wait_for_state(job, *FINAL)
    assert found.state is JobState.SUCCEEDED, found.failure
    return found


def test_of_jobs_that_wait_together_one_is_run(site):
    jobs = [site.tenant.submit(site.store_model()) for _ in range(3)]
    with site.start_worker(engine_command=site.engine("succeed"), **QUICK):
        found = [_done(site, job) for job in jobs]
    assert [job.reused_from for job in found] == [None, jobs[0].id, jobs[0].id]
    first, *others = [{name: file.sha256 for name, file in _artifacts(site, job).items()} for job in jobs]
    del first["log.txt"]
    assert others == [first, first]
    with site.database.session(read_only=True) as session:
        (attempt,) = attempts(session, jobs[1].id)
    assert (attempt.outcome, attempt.reason) == (
        "succeeded",
        f"it is the same as {jobs[0].id}, and was given its result",
    )
    assert [event.state for event in _events(site, jobs[1])] == ["queued", "running", "succeeded"]
    assert sorted(path.name for path in (site.home / "work").glob("job_*")) == []


def test_without_the_bytes_it_is_run_again(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("succeed"), **QUICK):
        first = site.submit(reuse=True)
        _done(site, first)
        site.store.delete(_artifacts(site, first)["model.mpz"].sha256)
        again = _done(site, site.submit(reuse=True))
    assert again.reused_from is None


def test_a_longer_recipe_begins_with_the_steps_of_another_job(site):
    with site.start_worker(engine_command=site.engine("take_steps"), **QUICK):
        short = _submit(site, SECOND)
        _done(site, short)
        assert [steps for steps, _ in _results(site.database)] == [1, 2]
        longer = _submit(site, THIRD)
        _done(site, longer)
        forced = _submit(site, THIRD, reuse=False)
        _done(site, forced)
    assert _began_with(site, short) == {"from": None, "content": ""}
    made = f"+prune of {short.id}-1+quantize of {short.id}-1"
    assert _began_with(site, longer) == {"from": short.id, "content": made}
    assert _began_with(site, forced) == {"from": None, "content": ""}
    # What was run anew has taken the place of what was kept, and the checkpoints are gone.
    assert [steps for steps, _ in _results(site.database)] == [1, 2, 3]
    kept = {sha256 for _, sha256 in _results(site.database)}
    assert {b"".join(site.store.read(sha256)).decode().count(f"of {forced.id}-1") for sha256 in kept} == {1, 2, 3}
    clear_step_results(site.database, site.store, 1 << 30)
    assert _steps_in_store(site) == kept


def test_gone_bytes_cost_what_they_saved(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("take_steps"), **QUICK):
        _done(site, _submit(site, FIRST))
        for _, sha256 in _results(site.database):
            site.store.delete(sha256)
        longer = _submit(site, SECOND)
        _done(site, longer)
    assert _began_with(site, longer) == {"from": None, "content": ""}
    assert "step_result_gone" in site.log()


def test_with_a_limit_of_nothing_nothing_is_kept(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("take_steps"), step_results_limit_bytes=0, **QUICK):
        _done(site, _submit(site, FIRST))
        wait_for(lambda: not _steps_in_store(site), "the end of the checkpoint")
    assert _results(site.database) == []


def test_what_a_lower_limit_leaves_over_is_dropped_with_its_bytes(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("take_steps"), **QUICK):
        _done(site, _submit(site, SECOND))
    clear_checkpoints(site.database, site.store)
    assert len(_steps_in_store(site)) == 2
    assert clear_step_results(site.database, site.store, 0) == 2
    assert _steps_in_store(site) == set()
    assert _results(site.database) == []


def _steps_in_store(site: Site) -> set[str]:
    found = set()
    for path in Path(site.home / "store" / "objects").glob("*/*"):
        if path.read_bytes().startswith(b"+"):
            found.add(path.name)
    return found
