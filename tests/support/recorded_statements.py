"""The statements of a version of this code, kept as SQL, so that later tables can be tried with them.

    python -m tests.support.recorded_statements

writes `tests/db/recorded/<revision>.<dialect>.json`: every statement by which API and workers of the code that is
checked out carry uploads and jobs through their life, with its parameters, and what the tables then hold. Do so before
the code of a new migration is written: after it, the statements of the version before it can only be had from git.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from psycopg.types.json import Json
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text

from api.resources import to_event, to_job, to_jobs
from db import migrate
from db.clock import UtcTimestamp
from db.database import Database, open_database
from db.models import Base
from db.queries import checkpoints, claims, inspections, jobs, metrics, stored_bytes, teams, uploads, workers
from db.queries.backlog import backlog
from modelpress.spec.event import Progress, Warned
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.needs import Capacity
from modelpress.spec.state import JobState
from tests.support.postgres import postgres_server
from tests.support.reports import a_report
from tests.support.rows import Tenant, any_sha256, new_tenant
from tests.support.uploads import dataset_inspection, model_inspection

FOLDER = Path(__file__).parent.parent / "db" / "recorded"
CAPACITY = Capacity(device="cpu", cores=8, memory_bytes=1 << 34)
_LEASE, _LAPSED = 60.0, -1.0
_FAILURE = Failure(kind=FailureKind.OUT_OF_MEMORY, message="out of memory; lower the batch size")

# One call: the number of its statement and its parameters; a word alone ends a transaction.
Call = tuple[int, Any] | str


@dataclass(frozen=True)
class Recording:
    """What was sent to a database, and what was there in the end."""

    statements: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)  # of each table, without moments
    rows: dict[str, list[list[Any]]] = field(default_factory=dict)


def path_of(revision: str, dialect: str) -> Path:
    """Where the statements of the code that expects this revision are."""
    return FOLDER / f"{revision}.{dialect}.json"


def record(database: Database) -> Recording:
    """Let the code that is checked out work in an empty migrated database."""
    recording = Recording(columns=_columns())
    numbers: dict[str, int] = {}

    def sent(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement not in numbers:
            numbers[statement] = len(numbers)
            recording.statements.append(statement)
        recording.calls.append((numbers[statement], _plain(parameters)))

    def committed(_connection: Connection) -> None:
        recording.calls.append("commit")

    def undone(_connection: Connection) -> None:
        recording.calls.append("rollback")

    listeners = {"before_cursor_execute": sent, "commit": committed, "rollback": undone}
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        _work(database)
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)
    with database.session(read_only=True) as session:
        recording.rows.update(contents(session.connection(), recording.columns))
    return recording


def replay(connection: Connection, recording: Recording) -> None:
    """Send the statements once more, as they are."""
    cursor = connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
    for call in recording.calls:
        if isinstance(call, str):
            cursor.execute(call)
            continue
        number, parameters = call
        cursor.execute(recording.statements[number], _real(parameters))
        if cursor.description is not None:
            cursor.fetchall()
    cursor.close()


def contents(connection: Connection, columns: dict[str, list[str]]) -> dict[str, list[list[Any]]]:
    """The rows of these columns, in the order of the tables' keys, as JSON has them."""
    found = {}
    for table, names in columns.items():
        keys = [column.name for column in Base.metadata.tables[table].primary_key]
        query = f"SELECT {', '.join(names)} FROM {table} ORDER BY {', '.join(keys)}"  # noqa: S608  # our own names
        found[table] = [list(row) for row in connection.execute(text(query))]
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


@contextmanager
def bare_connection(url: str) -> Iterator[Connection]:
    """A connection that begins no transaction by itself but where the driver does."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    engine = create_engine(
        parsed if sqlite else parsed.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"isolation_level": None} if sqlite else {},
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def load(path: Path) -> Recording:
    """A recording that was written."""
    kept = json.loads(path.read_text())
    calls = [call if isinstance(call, str) else (call[0], call[1]) for call in kept.pop("calls")]
    return Recording(calls=calls, **kept)


def _columns() -> dict[str, list[str]]:
    return {
        table.name: [column.name for column in table.columns if not isinstance(column.type, UtcTimestamp)]
        for table in Base.metadata.sorted_tables
    }


def _plain(parameters: Any) -> Any:
    if isinstance(parameters, Json):
        return {"json": _plain(parameters.obj)}
    if isinstance(parameters, dict):
        return {name: _plain(value) for name, value in parameters.items()}
    return [_plain(value) for value in parameters] if isinstance(parameters, list | tuple) else parameters


def _real(parameters: Any) -> Any:
    def real(value: Any) -> Any:
        return Json(value["json"]) if isinstance(value, dict) else value

    if isinstance(parameters, dict):
        return {name: real(value) for name, value in parameters.items()}
    return tuple(real(value) for value in parameters)


def _work(database: Database) -> None:
    """Whatever API and workers write, and what they ask for."""
    tenant = new_tenant(database)
    with database.session() as session:
        key, secret = teams.create_key(session, tenant.team_id, "a key", frozenset({"read", "write"}))
        assert teams.find_key(session, secret) is not None
        teams.touch_key(session, key.id)
        workers.renew_worker(session, "worker", CAPACITY, _LEASE)
        workers.renew_worker(session, "worker", CAPACITY, _LEASE)
    model, dataset = tenant.upload_model(), tenant.upload_dataset()
    _inspect(database)
    done, failed, lost, cancelled, handed_back = [
        tenant.submit(model, dataset, sparsity=sparsity).id for sparsity in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    student = tenant.upload_model()
    tenant.submit(model, dataset, students=[student], priority=-1, wait_limit_seconds=3_600.0)
    _succeed(database, done)
    with database.session() as session:
        assert _claimed(session, _LEASE) == failed
        assert claims.fail(session, failed, 1, _FAILURE)
    with database.session() as session:
        assert _claimed(session, _LAPSED) == lost
    with database.session() as session:
        assert claims.reap(session, 3).requeued == [lost]
        assert _claimed(session, _LEASE) == lost
        assert claims.lose(session, lost, 2, _FAILURE, 2, "the engine was killed")
    with database.session() as session:
        assert _claimed(session, _LEASE) == cancelled
        jobs.cancel(session, tenant.team_id, cancelled)
        assert claims.heartbeat(session, cancelled, 1, _LEASE) is JobState.CANCELLING
        assert claims.cancelled(session, cancelled, 1)
    with database.session() as session:
        assert _claimed(session, _LEASE) == handed_back
        assert claims.release(session, handed_back, 1, "the worker was stopped")
        jobs.retry(session, tenant.team_id, failed)
        jobs.cancel(session, tenant.team_id, failed)
        uploads.delete_dataset(session, tenant.team_id, tenant_spare(session, tenant))
        workers.retire_worker(session, "worker")
    _look(database, tenant, done, handed_back, model.id)


def tenant_spare(session: Any, tenant: Tenant) -> str:
    """A data set that no job uses."""
    return uploads.create_dataset(session, tenant.team_id, name="spare", sha256=any_sha256(), size=1).id


def _claimed(session: Any, lease: float) -> str | None:
    assert claims.has_waiting_jobs(session, CAPACITY)
    claimed = claims.claim_job(session, "worker", lease, CAPACITY)
    return None if claimed is None else claimed.id


def _inspect(database: Database) -> None:
    with database.session() as session:
        for _ in range(2):
            assert inspections.has_waiting_inspections(session)
            found = inspections.claim_inspection(session, "inspector", _LEASE)
            assert found is not None
            assert inspections.renew_inspection(session, found.kind, found.id, found.attempt, _LEASE)
            result = model_inspection() if found.kind == "model" else dataset_inspection()
            assert inspections.finish_inspection(session, found.kind, found.id, found.attempt, result)


def _succeed(database: Database, job_id: str) -> None:
    with database.session() as session:
        assert _claimed(session, _LEASE) == job_id
    told = [
        Progress(stage="step", step=0, steps=1, fraction=0.5, epoch=epoch, epochs=2, metrics={"loss": 1.0})
        for epoch in (1, 2)
    ]
    with database.session() as session:
        assert claims.heartbeat(session, job_id, 1, _LEASE) is JobState.RUNNING
        assert claims.append_events(session, job_id, 1, [*told, Warned(message="a warning; nothing is to be done")])
        for _ in range(2):
            assert claims.keep_checkpoint(session, job_id, 1, "steps", sha256=any_sha256(), size=10)
        file = {"kind": "safetensors", "filename": "model.safetensors", "size": 5, "content_type": "a/b"}
        assert claims.add_artifact(session, job_id, 1, sha256=any_sha256(), **file)  # type: ignore[arg-type]
    with database.session() as session:
        assert claims.succeed(session, job_id, 1, a_report())
    with database.session() as session:
        for row_id, sha256 in checkpoints.unneeded_checkpoints(session):
            assert uploads.hold_bytes_unless_held(session, sha256)
            checkpoints.drop_checkpoint(session, row_id, sha256)


def _look(database: Database, tenant: Tenant, done: str, waiting: str, model: str) -> None:
    with database.session(read_only=True) as session:
        team = tenant.team_id
        to_jobs(session, jobs.list_jobs(session, team, state=JobState.QUEUED, model=model, after="job_z", limit=10))
        for job_id in (done, waiting):
            job = jobs.get_job(session, team, job_id)
            assert job is not None
            to_job(session, job)
            jobs.get_report(session, job)
        [to_event(row) for row in jobs.events_after(session, done, 0, 100)]
        jobs.versions(session, [done, waiting])
        jobs.standing(session, team, done)
        for file in jobs.artifacts(session, done):
            jobs.get_artifact(session, team, file.id)
        metrics.metrics(session, done)
        uploads.list_models(session, team, limit=10)
        uploads.list_datasets(session, team, limit=10)
        stored_bytes.holders(session, "a")
        workers.known_capacities(session)
        backlog(session)


def _write(url: str) -> None:
    database = open_database(url)
    database.migrate()
    recording = record(database)
    database.dispose()
    path = path_of(migrate.head() or "", database.dialect)
    path.parent.mkdir(exist_ok=True)
    path.write_text(_json(recording))


def _json(recording: Recording) -> str:
    """A line a statement and a call, so that git shows what changed."""
    parts = []
    for name, value in asdict(recording).items():
        lines: Sequence[str]
        if isinstance(value, dict):
            lines = [f"{json.dumps(key)}: {json.dumps(each)}" for key, each in value.items()]
            parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
        else:
            parts.append(f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(each) for each in value) + "\n]")
    return "{" + ",\n".join(parts) + "}\n"


def main() -> None:
    """Write both."""
    with tempfile.TemporaryDirectory() as folder:
        _write(f"sqlite:///{folder}/modelpress.db")
    with postgres_server() as url:
        _write(url)


if __name__ == "__main__":
    main()
