"""What a long history costs: the same questions with 1,000 and with 1,000,000 finished jobs in the tables.

One team owns all of them, beside some that wait and run. Each question is timed as the service asks it, with its
session and its rows made into objects; the ratio of the medians is what may not grow.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
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
        "may a model be deleted?": lambda session: _undone(session, about),
    }


def _undone(session: Session, about: Subjects) -> None:
    with session.begin_nested() as savepoint:
        uploads.delete_model(session, about.team_id, about.unused)
        savepoint.rollback()


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


def ask(database: Database, about: Subjects, rounds: int) -> dict[str, list[float]]:
    """Seconds of each question, each time it was asked."""
    return {
        **{name: _timed(database, question, rounds, True) for name, question in reads(about).items()},
        **{name: _timed(database, question, rounds, False) for name, question in writes(about).items()},
    }


def _timed(database: Database, question: Question, rounds: int, read_only: bool) -> list[float]:
    seconds = []
    for turn in range(rounds + 5):
        begin = time.perf_counter()
        with database.session(read_only=read_only) as session:
            question(session)
        if turn >= 5:  # the first ones warm up
            seconds.append(time.perf_counter() - begin)
    return seconds


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
    with fresh_database(dialect) as (database, _):
        tenant, template, models = set_up(database)
        copy_finished(database, template, 1, FEW, models)
        running, waiting = add_unfinished(tenant)
        with database.session(read_only=True) as session:
            listed = jobs.list_jobs(session, tenant.team_id, state=JobState.SUCCEEDED, limit=FEW)
        about = Subjects(
            team_id=tenant.team_id,
            model=models[3],
            unused=tenant.upload_model().id,
            finished=listed[len(listed) // 2].id,
            waiting=waiting,
            running=running,
        )
        few = ask(database, about, options.rounds)
        copy_finished(database, template, FEW + 1, options.jobs, models)
        many = ask(database, about, options.rounds)
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
                median(many[name]) / median(few[name]),
                at_most=1.5,
                baseline={"ms_with_few": 1e3 * median(few[name]), "ms_with_many": 1e3 * median(many[name])},
            )
            for name in few
        ],
    )


if __name__ == "__main__":
    main()
