"""Jobs that are over, as a worker leaves them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from db.clock import now_plus
from db.models import Job
from db.queries.claims import ClaimedJob, add_artifact, claim_job, succeed
from tests.support.reports import a_report
from tests.support.rows import Tenant


def carry_out(tenant: Tenant, job: Job, files: Mapping[str, str], kind: str = "compact") -> ClaimedJob:
    """Play the worker: the job, whose turn it is, succeeds with files of this kind, hashes by their names."""
    with tenant.database.session() as session:
        claimed = claim_job(session, "worker", 60)
        assert claimed is not None
        assert claimed.id == job.id
        for filename, sha256 in files.items():
            assert add_artifact(
                session,
                job.id,
                claimed.attempt,
                kind=kind,
                filename=filename,
                size=1,
                sha256=sha256,
                content_type="application/octet-stream",
            )
        assert succeed(session, job.id, claimed.attempt, a_report())
    return claimed


def end_before(tenant: Tenant, job: Job, seconds: float) -> None:
    """Let the job have ended so many seconds ago."""
    with tenant.database.session() as session:
        session.get_one(Job, job.id).finished_at = session.scalar(select(now_plus(-seconds)))
