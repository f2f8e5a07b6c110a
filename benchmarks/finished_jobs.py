"""Finished jobs in any number, written by a few statements: copies of one that went the usual way.

Jobs, attempts, events and artifacts are copied. Figures (`metrics`) and reports are not: nothing that is asked of many
jobs reads them. Every tenth failed, none was cancelled, and each is a second older than the next.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table, text

from db.database import Database
from db.models import Artifact, Attempt, Event, Job
from db.queries.claims import add_artifact, append_events, claim_job, succeed
from modelpress.spec.event import Progress
from tests.support.reports import a_report
from tests.support.rows import Tenant, any_sha256

_TABLES: tuple[Table, ...] = tuple(table.__table__ for table in (Job, Attempt, Event, Artifact))  # type: ignore[misc]
_OLDEST = "000000000000"  # where an id has its milliseconds: older than all that is made now
_MOMENTS = frozenset({"created_at", "queued_at", "started_at", "finished_at"})

# An expression for the n-th copy, by dialect.
_SERIES = {
    "sqlite": "WITH RECURSIVE series(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM series WHERE n < :last)",
    "postgresql": "WITH series AS (SELECT generate_series(CAST(:first AS int), CAST(:last AS int)) AS n)",
}
_HEX = {"sqlite": "printf('%016x', n)", "postgresql": "lpad(to_hex(n), 16, '0')"}
_HASH = {
    "sqlite": "lower(hex(randomblob(32)))",
    "postgresql": "encode(sha256(convert_to(CAST(n AS text), 'UTF8')), 'hex')",
}
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-20 days', printf('+%d seconds', n))",
    "postgresql": "now() - interval '20 days' + make_interval(secs => n)",
}


def finish_one(tenant: Tenant) -> str:
    """Carry a job of the team out: its id."""
    job = tenant.submit(tenant.upload_model())
    with tenant.database.session() as session:
        claimed = claim_job(session, "benchmark", 60)
        assert claimed is not None
        assert claimed.id == job.id
        told = Progress(stage="step", step=0, steps=1, fraction=0.5)
        assert append_events(session, job.id, 1, [told])
        written = add_artifact(
            session,
            job.id,
            1,
            kind="safetensors",
            filename="model.safetensors",
            size=1_000,
            sha256=any_sha256(),
            content_type="application/octet-stream",
        )
        assert written
        assert succeed(session, job.id, 1, a_report())
    return job.id


def copy_finished(database: Database, job_id: str, first: int, last: int, models: list[str]) -> None:
    """Copies number `first` to `last` of a finished job, of these models in turn.

    Then PostgreSQL does what it would have done of itself by and by; SQLite is never told to.
    """
    with database.session() as session:
        connection = session.connection()
        if database.dialect == "postgresql":  # looking up what each row refers to would take most of the time
            session.execute(text("SET LOCAL session_replication_role = replica"))
        for table in _TABLES:
            _copy(connection, table, job_id, first, last, models)
    if database.dialect == "postgresql":
        with database.session() as session:
            session.execute(text("ANALYZE"))


def _copy(connection: Connection, table: Table, job_id: str, first: int, last: int, models: list[str]) -> None:
    dialect = connection.dialect.name
    key = f"'{_OLDEST}' || {_HEX[dialect]}"
    model = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(models))
    own = {
        "model_id": f"CASE n % {len(models)} {model} END",
        "state": "CASE n % 10 WHEN 3 THEN 'failed' ELSE 'succeeded' END",
        "job_id": f"'job_' || {key}",
        "id": f"'{'job' if table is Job.__table__ else 'art'}_' || {key}",
        "report": "NULL",
        "sha256": _HASH[dialect],
        **dict.fromkeys(_MOMENTS, _MOMENT[dialect]),
    }
    names = [column.name for column in table.columns]
    values = [own.get(name, f"one.{name}") for name in names]
    of_job = "id" if table is Job.__table__ else "job_id"
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({', '.join(names)}) {_SERIES[dialect]} SELECT {', '.join(values)} "  # noqa: S608
            f"FROM series CROSS JOIN {table.name} AS one WHERE one.{of_job} = :job ORDER BY n"
        ),
        {"first": first, "last": last, "job": job_id},
    )
