"""Ten thousand waiting jobs and fifty workers: how fast they are claimed, and what a heartbeat costs the database.

Fifty processes, each with its own connection, do what a worker does around an engine that does nothing: look, claim,
beat once, finish. All of them share the machine with the database. The seconds that a claim takes are those of the
worker that asks: with forty-nine others at it, most of them are spent waiting for a turn.

Commits are synced to disk, which is what limits SQLite: it is timed for `--seconds`, and the rest of the jobs is then
done on a file system in memory, to see that none is lost or taken twice.

A heartbeat's database time is measured without the others: on PostgreSQL by the server (EXPLAIN ANALYZE, planning and
execution), on SQLite around the driver's call of the statement. Neither counts the commit.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from statistics import median, quantiles
from typing import Any

from sqlalchemy import Engine, delete, event, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from benchmarks.history import CAPACITY, DIALECTS, LEASE_SECONDS, fresh_database
from benchmarks.result import RESULTS, Figure, arguments, publish
from db.clock import now_plus
from db.database import Database, open_database
from db.models import Attempt, Event, Job
from db.queries.claims import claim_job, heartbeat, succeed
from db.queries.fence import held
from modelpress.spec.state import JobState
from tests.support.reports import a_report
from tests.support.rows import new_tenant

TEAMS = 5
HEARTBEATS = 200
_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108


@dataclass(frozen=True)
class Shift:
    """What a worker did."""

    claimed: list[tuple[str, int]]  # job and attempt
    claims: list[float]  # seconds of each
    turned_away: int  # by SQLite, after BUSY_SECONDS; asked again, as a worker does
    begin: float
    end: float


def fill(database: Database, number: int) -> None:
    """Jobs that wait, of several teams: copies of one of each that went the usual way."""
    for turn in range(TEAMS):
        tenant = new_tenant(database, f"team {turn}")
        job = tenant.submit(tenant.upload_model())
        with database.session() as session:
            for table in (Job, Event):
                source = session.execute(
                    select(table.__table__).where((table.id if table is Job else table.job_id) == job.id)
                ).one()
                key = "id" if table is Job else "job_id"
                rows = [{**source._mapping, key: f"job_{turn:012x}{copy:016x}"} for copy in range(number // TEAMS - 1)]
                session.execute(insert(table), rows)
    if database.dialect == "postgresql":
        with database.session() as session:
            session.execute(text("ANALYZE"))


def work(url: str, name: str, seconds: float, start: Barrier, results: Any) -> None:
    """One worker's shift, until nothing waits or the time is up. A process of its own."""
    database = open_database(url)
    database.ping()
    report = a_report()
    turned_away = 0
    claimed: list[tuple[str, int]] = []
    claims: list[float] = []
    start.wait()
    begin = time.time()

    def carried(write: Callable[[Session], Any]) -> Any:
        nonlocal turned_away
        while True:
            try:
                with database.session() as session:
                    return write(session)
            except OperationalError:
                turned_away += 1

    while time.time() - begin < seconds:
        asked = time.perf_counter()
        job = carried(lambda session: claim_job(session, name, LEASE_SECONDS, CAPACITY))
        if job is None:
            break
        claims.append(time.perf_counter() - asked)
        claimed.append((job.id, job.attempt))
        assert carried(partial(heartbeat, job_id=job.id, attempt=job.attempt, lease_seconds=LEASE_SECONDS))
        assert carried(partial(succeed, job_id=job.id, attempt=job.attempt, report=report))
    database.dispose()
    results.put(Shift(claimed, claims, turned_away, begin, time.time()))


def shifts(url: str, workers: int, seconds: float) -> list[Shift]:
    """Let all workers begin at once, and wait for them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.history"])
    results = context.Queue()
    start = context.Barrier(workers)
    processes = [
        context.Process(target=work, args=(url, f"worker-{number}", seconds, start, results))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    found: list[Shift] = []
    while len(found) < workers:
        try:
            found.append(results.get(timeout=1))
        except Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a worker broke; its error is above") from None
    for process in processes:
        process.join()
    return found


def check(database: Database, found: list[Shift], jobs: int) -> None:
    """None lost, none taken twice, all finished. Raises AssertionError."""
    taken = Counter(job for shift in found for job, _ in shift.claimed)
    assert len(taken) == jobs
    assert set(taken.values()) == {1}
    assert {attempt for shift in found for _, attempt in shift.claimed} == {1}
    with database.session(read_only=True) as session:
        states = session.execute(select(Job.state, func.count()).group_by(Job.state)).tuples().all()
        assert [*states] == [(JobState.SUCCEEDED, jobs)]
        assert session.scalar(select(func.count()).select_from(Attempt)) == jobs


def heartbeats(database: Database) -> list[float]:
    """Seconds of database time of a heartbeat, each with the commit left out."""
    tenant = new_tenant(database, "of the heartbeat")
    job_id = tenant.submit(tenant.upload_model()).id
    hold = {"state": JobState.RUNNING, "attempt": 1, "worker": "heart", "lease_expires_at": now_plus(LEASE_SECONDS)}
    with database.session() as session:
        session.execute(update(Job).where(Job.id == job_id).values(hold))
    seconds = [_beat(database, job_id, 1) for _ in range(HEARTBEATS)]
    with database.session() as session:
        session.execute(delete(Event).where(Event.job_id == job_id))
        session.execute(delete(Job).where(Job.id == job_id))
    return seconds


def _beat(database: Database, job_id: str, attempt: int) -> float:
    if database.dialect == "sqlite":
        return _statement_seconds(lambda: _committed_beat(database, job_id, attempt))
    with database.session() as session:
        # The statement of db.queries.claims.heartbeat.
        statement = update(Job).where(held(job_id, attempt)).values(lease_expires_at=now_plus(LEASE_SECONDS))
        sql = statement.returning(Job.state).compile(
            dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
        )
        plan = session.connection().exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").scalar_one()
        return float(plan[0]["Planning Time"] + plan[0]["Execution Time"]) / 1e3


def _committed_beat(database: Database, job_id: str, attempt: int) -> None:
    with database.session() as session:
        assert heartbeat(session, job_id, attempt, LEASE_SECONDS) is JobState.RUNNING


def _statement_seconds(act: Callable[[], None]) -> float:
    """Seconds that the driver spends in the UPDATE that is sent meanwhile."""
    begin = spent = 0.0

    def before(*_: Any) -> None:
        nonlocal begin
        begin = time.perf_counter()

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal spent
        if statement.startswith("UPDATE"):
            spent += time.perf_counter() - begin

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    try:
        act()
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        event.remove(Engine, "after_cursor_execute", after)
    return spent


def main() -> None:
    """Measure, write, print."""
    parser = arguments("queue", __doc__ or "")
    parser.add_argument("--database", choices=DIALECTS, help="one of them; both by default")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long claims are timed")
    parser.set_defaults(output=None)  # a file for each database
    options = parser.parse_args()
    for dialect in DIALECTS if options.database is None else (options.database,):
        measure(options, dialect)


def measure(options: argparse.Namespace, dialect: str) -> None:
    """On one database."""
    with fresh_database(dialect) as (database, url), tempfile.TemporaryDirectory(dir=_MEMORY) as memory:
        database.migrate()
        fill(database, options.jobs)
        found = shifts(url, options.workers, options.seconds)
        beats = heartbeats(database)
        if dialect == "sqlite":
            copied = f"{memory}/modelpress.db"
            shutil.copyfile(url.removeprefix("sqlite:///"), copied)
            url = f"sqlite:///{copied}"
        rest = shifts(url, options.workers, math.inf)
        finished = open_database(url)
        check(finished, [*found, *rest], options.jobs)
        finished.dispose()
    seconds = max(shift.end for shift in found) - min(shift.begin for shift in found)
    claims = [each for shift in found for each in shift.claims]
    publish(
        options.output or RESULTS / f"queue_{dialect}.json",
        f"{options.jobs:,} waiting jobs and {options.workers} workers, {dialect}",
        {
            "database": dialect,
            "jobs": options.jobs,
            "teams": TEAMS,
            "workers": options.workers,
            "worker_processes": options.workers,
            "each_job": "claim, one heartbeat, finish with a report: three transactions, synced to disk",
            "turned_away": sum(shift.turned_away for shift in found),
            "timed_seconds": round(seconds, 1),
            "timed_claims": len(claims),
            "taken_twice": 0,
            "not_finished": 0,
        },
        [
            Figure("claims", len(claims) / seconds, "1/s"),
            Figure("time to claim, median", median(claims), "s"),
            Figure("time to claim, 99th percentile", quantiles(claims, n=100)[-1], "s"),
            Figure("heartbeat, database time, median", 1e3 * median(beats), "ms", at_most=1.0),
            Figure("heartbeat, database time, 99th percentile", 1e3 * quantiles(beats, n=100)[-1], "ms"),
        ],
    )


if __name__ == "__main__":
    main()
