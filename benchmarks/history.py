"""What a long history costs: the same questions with 1,000 and with 1,000,000 finished jobs in the tables.

One team owns all of them, beside some that wait and run. Each question is timed as the service asks it, with its
session and its rows made into objects, of two databases in turns; the ratio of the medians is what may not grow.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy.orm import Session

from api.resources import to_event, to_job, to_jobs
from benchmarks.finished_jobs import copy_finished, finish_one
from benchmarks.result import RESULTS, Figure, arguments, publish
from db.database import Database, open_database
from db.queries import claims, jobs, uploads
from db.queries.backlog import backlog
from db.queries.checkpoints import unneeded_checkpoints
from db.queries.deletion import delete_job, jobs_ended_before
from db.queries.stored_bytes import is_needed
from db.queries.workers import renew_worker
from modelpress.spec.needs import Capacity
from modelpress.spec.state import JobState
from tests.support.postgres import postgres_server
from tests.support.rows import Tenant, any_sha256, new_tenant

DIALECTS = ("sqlite", "postgresql")
FEW = 1_000
WAITING, RUNNING, WORKERS, MODELS = 500, 20, 25, 10
LEASE_SECONDS = 3_600.0
A_YEAR = 31_536_000.0
WARMING_UP = 5  # rounds that do not count
CAPACITY = Capacity(device="cpu", cores=8, memory_bytes=1 << 40, gpu_memory_bytes=0)

Question = Callable[[Session], Any]


@dataclass(frozen=True)
class Subjects:
    """What is asked for: a finished job in the middle of the history, and others."""

    team_id: str
    model: str  # with a tenth of the jobs
    unused: str  # a model without jobs
    finished: str
    waiting: str
    running: str


def reads(about: Subjects) -> dict[str, Question]:
    """What the API and the workers ask without writing."""
    team, finished = about.team_id, about.finished

    def listed(**which: Any) -> Question:
        return lambda session: to_jobs(session, jobs.list_jobs(session, team, limit=51, **which))

    def seen(job_id: str) -> Question:
        def look(session: Session) -> None:
            job = jobs.get_job(session, team, job_id)
            assert job is not None
            to_job(session, job)

        return look

    return {
        "list": listed(),
        "list, a later page": listed(after=finished),
        "list, state": listed(state=JobState.FAILED),
        "list, state that waits": listed(state=JobState.QUEUED),
        "list, state without jobs": listed(state=JobState.CANCELLED),
        "list, model": listed(model=about.model),
        "list, model without jobs": listed(model=about.unused),
        "list, model and state": listed(model=about.model, state=JobState.FAILED),
        "list, model and state without jobs": listed(model=about.model, state=JobState.CANCELLED),
        "list, model, state, a later page": listed(model=about.model, state=JobState.FAILED, after=finished),
        "poll, finished": seen(finished),
        "poll, running": seen(about.running),
        "poll, waiting (its place and expected start)": seen(about.waiting),
        "poll, versions": lambda session: jobs.versions(session, [about.running, finished]),
        "poll, unchanged": lambda session: jobs.standing(session, team, about.running),
        "events": lambda session: [to_event(row) for row in jobs.events_after(session, finished, 0, 200)],
        "artifacts": lambda session: jobs.artifacts(session, finished),
        "a worker looks for work": lambda session: claims.has_waiting_jobs(session, CAPACITY),
        "checkpoints that nobody needs": unneeded_checkpoints,
        "bytes that a row names": lambda session: is_needed(session, any_sha256()),
        "metrics of the API": backlog,
    }


def writes(about: Subjects) -> dict[str, Question]:
    """What changes rows."""
    return {
        "claim": lambda session: claims.claim_job(session, "benchmark", LEASE_SECONDS, CAPACITY),
        "heartbeat": lambda session: claims.heartbeat(session, about.running, 1, LEASE_SECONDS),
        "reap": lambda session: claims.reap(session, 3),
        "a worker's row": lambda session: renew_worker(session, "worker-0", CAPACITY, LEASE_SECONDS),
        "may a model be deleted?": _undone(lambda session: uploads.delete_model(session, about.team_id, about.unused)),
        "delete a job": _undone(lambda session: delete_job(session, about.team_id, about.finished)),
        "jobs that are too old": lambda session: jobs_ended_before(session, A_YEAR),
    }


def _undone(write: Question) -> Question:
    def undone(session: Session) -> None:
        with session.begin_nested() as savepoint:
            write(session)
            savepoint.rollback()

    return undone


def set_up(database: Database) -> tuple[Tenant, str, list[str]]:
    """A team, a finished job to be copied, and models to be copied for."""
    database.migrate()
    tenant = new_tenant(database)
    return tenant, finish_one(tenant), [tenant.upload_model().id for _ in range(MODELS)]


def add_unfinished(tenant: Tenant) -> tuple[str, str]:
    """Workers, jobs that they hold, and jobs that wait; gives a running and a waiting one."""
    model = tenant.upload_model()
    for _ in range(RUNNING + WAITING):
        last = tenant.submit(model)
    for number in range(WORKERS):
        with tenant.database.session() as session:
            renew_worker(session, f"worker-{number}", CAPACITY, LEASE_SECONDS)
            if number < RUNNING:
                running = claims.claim_job(session, f"worker-{number}", LEASE_SECONDS, CAPACITY)
                assert running is not None
    return running.id, last.id


def subjects(database: Database, finished: int) -> Subjects:
    """A database with so many finished jobs, and what is asked of it."""
    tenant, template, models = set_up(database)
    copy_finished(database, template, 1, FEW, models)
    running, waiting = add_unfinished(tenant)
    with database.session(read_only=True) as session:
        listed = jobs.list_jobs(session, tenant.team_id, state=JobState.SUCCEEDED, limit=FEW)
    if finished > FEW:
        copy_finished(database, template, FEW + 1, finished, models)
    return Subjects(
        team_id=tenant.team_id,
        model=models[3],
        unused=tenant.upload_model().id,
        finished=listed[len(listed) // 2].id,
        waiting=waiting,
        running=running,
    )


def ask(sites: Sequence[tuple[Database, Subjects]], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of each question, by database, each time it was asked.

    The databases take turns: a machine that slows down slows both.
    """
    found = {}
    for questions, read_only in ((reads, True), (writes, False)):
        for name in questions(sites[0][1]):
            each = [(database, questions(about)[name]) for database, about in sites]
            seconds = [[_timed(*asked, read_only) for asked in each] for _ in range(rounds + WARMING_UP)]
            found[name] = [list(column) for column in zip(*seconds[WARMING_UP:], strict=True)]
    return found


def _timed(database: Database, question: Question, read_only: bool) -> float:
    begin = time.perf_counter()
    with database.session(read_only=read_only) as session:
        question(session)
    return time.perf_counter() - begin


@contextmanager
def fresh_database(dialect: str) -> Iterator[tuple[Database, str]]:
    """An empty one, and its URL."""
    if dialect == "postgresql":
        with postgres_server() as url:
            database = open_database(url)
            yield database, url
            database.dispose()
        return
    with tempfile.TemporaryDirectory(prefix="modelpress-history-") as folder:
        url = f"sqlite:///{folder}/modelpress.db"
        database = open_database(url)
        yield database, url
        database.dispose()


def main() -> None:
    """Measure, write, print."""
    parser = arguments("history", __doc__ or "")
    parser.add_argument("--database", choices=DIALECTS, help="one of them; both by default")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="finished jobs")
    parser.add_argument("--rounds", type=int, default=60, help="how often each question is asked")
    parser.set_defaults(output=None)  # a file for each database
    options = parser.parse_args()
    for dialect in DIALECTS if options.database is None else (options.database,):
        measure(options, dialect)


def measure(options: argparse.Namespace, dialect: str) -> None:
    """On one database."""
    with fresh_database(dialect) as (small, _), fresh_database(dialect) as (large, _):
        sites = [(small, subjects(small, FEW)), (large, subjects(large, options.jobs))]
        seconds = ask(sites, options.rounds)
    output: Path = options.output or RESULTS / f"history_{dialect}.json"
    publish(
        output,
        f"{options.jobs:,} finished jobs over {FEW:,}, {dialect}",
        {
            "database": dialect,
            "jobs": options.jobs,
            "waiting": WAITING,
            "running": RUNNING,
            "rounds": options.rounds,
            "left_out": "reports and figures of the finished jobs",
        },
        [
            Figure(
                name,
                median(many) / median(few),
                at_most=1.5,
                baseline={"ms_with_few": 1e3 * median(few), "ms_with_many": 1e3 * median(many)},
            )
            for name, (few, many) in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
