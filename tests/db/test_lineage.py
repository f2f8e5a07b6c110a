"""Where models come from: the chain of jobs, found by the hashes of what they made."""

from __future__ import annotations

import pytest

from db.queries.jobs import artifacts
from db.queries.lineage import lineage
from db.queries.uploads import get_model
from modelpress.spec.report import Ancestor, Origin
from tests.support.finished import carry_out
from tests.support.rows import any_sha256, new_tenant


@pytest.fixture
def tenant(database):
    return new_tenant(database)


def _finish(tenant, job, sha256, kind="compact"):
    """Carry the job out; its one artifact has this hash."""
    return carry_out(tenant, job, {"file": sha256}, kind=kind)


def _artifact(tenant, job):
    with tenant.database.session(read_only=True) as session:
        (row,) = artifacts(session, job.id)
        return row.id


def _lineage(tenant, model):
    with tenant.database.session(read_only=True) as session:
        return lineage(session, get_model(session, tenant.team_id, model.id))


def test_a_chain_of_jobs_is_followed_to_its_beginning(tenant):
    first, second = tenant.upload_model(), any_sha256()
    one = tenant.submit(first)
    _finish(tenant, one, second)
    again = tenant.upload_model(sha256=second)
    assert again.derived_from == Origin(job=one.id, artifact=_artifact(tenant, one))
    two, third = tenant.submit(again), any_sha256()
    claimed = _finish(tenant, two, third)
    older = Ancestor(job=one.id, artifact=_artifact(tenant, one), sha256=second, model_sha256=first.sha256)
    assert claimed.model.lineage == (older,)
    newer = Ancestor(job=two.id, artifact=_artifact(tenant, two), sha256=third, model_sha256=second)
    assert _lineage(tenant, tenant.upload_model(sha256=third)) == (newer, older)
    assert _lineage(tenant, first) == ()


def test_of_two_jobs_that_made_the_same_bytes_the_first_counts(tenant):
    model, sha256 = tenant.upload_model(), any_sha256()
    jobs = [tenant.submit(model) for _ in range(2)]
    for job in jobs:
        _finish(tenant, job, sha256)
    assert tenant.upload_model(sha256=sha256).derived_from.job == jobs[0].id


def test_another_teams_artifact_is_nobodys(tenant, database):
    sha256 = any_sha256()
    _finish(tenant, tenant.submit(tenant.upload_model()), sha256)
    assert new_tenant(database, "other").upload_model(sha256=sha256).derived_from is None


def test_a_log_is_no_artifact_to_come_from(tenant):
    sha256 = any_sha256()
    _finish(tenant, tenant.submit(tenant.upload_model()), sha256, kind="log")
    assert tenant.upload_model(sha256=sha256).derived_from is None
