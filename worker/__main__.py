"""One worker process: `python -m worker jobs` or `python -m worker inspections`.

Inspections have a process of their own, so that an upload never waits behind a long job.
"""

from __future__ import annotations

import argparse
import compileall
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import start_http_server
from sqlalchemy.orm import Session

import modelpress
from db.database import Database, open_database
from db.errors import DatabaseError
from db.queries import claims
from modelpress.spec.needs import Capacity
from service.jail.machine import prctl
from service.jail.walls import Available, JailUnavailable, require
from service.launch import PR_SET_CHILD_SUBREAPER
from service.logs import configure_logs
from service.settings import Settings, SettingsError, read_settings
from service.wakeup import INSPECTIONS_QUEUE, JOBS_QUEUE, Wakeup
from storage.open_store import open_store
from worker import metrics
from worker.app import make_worker_app, run_worker, stop_before_start
from worker.capacity import find_capacity
from worker.choose_starter import choose_starter
from worker.housekeeper import Housekeeper
from worker.poller import Poller
from worker.presence import Presence
from worker.reach import exposed
from worker.run_inspection import take_inspection
from worker.run_job import take_job
from worker.workplace import PASSING, Workplace
from worker.workshop import Workshop

# Between two looks for a database that is away or not migrated yet, seconds.
DATABASE_WAIT_SECONDS = 2.0

log = structlog.stdlib.get_logger("worker")


@dataclass(frozen=True)
class Kind:
    """One of the two kinds of worker."""

    queue: str
    take: Callable[[Workplace], bool]
    has_waiting: Callable[[Session, Capacity | None], bool]
    wake: Callable[[Wakeup], bool]
    metrics_port_offset: int
    capacity: Callable[[Settings], Capacity] | None  # None where nobody has to know what the worker has


KINDS = {
    "jobs": Kind(JOBS_QUEUE, take_job, claims.has_waiting_jobs, Wakeup.jobs, 0, find_capacity),
    "inspections": Kind(
        INSPECTIONS_QUEUE,
        take_inspection,
        lambda session, _capacity: claims.has_waiting_inspections(session),
        Wakeup.inspections,
        1,
        None,
    ),
}


def main() -> int:
    """Run one worker until it is told to end; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Carry out the work of a ModelPress service.")
    parser.add_argument("kind", choices=KINDS)
    kind_name = parser.parse_args().kind
    try:
        settings = read_settings()
        walls = require(settings.jail)
        settings.make_home()
        database = open_database(settings.database_url)
        store = open_store(
            settings.store_url, credentials=settings.s3_credentials, spool_folder=settings.home / "spool"
        )
    except (SettingsError, JailUnavailable, DatabaseError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logs(settings, f"worker.{kind_name}")
    _tell_of_jail(settings, walls)
    kind = KINDS[kind_name]
    workplace = Workplace(
        settings,
        database,
        store,
        choose_starter(settings),
        worker=f"{socket.gethostname()}-{kind_name}-{os.getpid()}",
        capacity=None if kind.capacity is None else kind.capacity(settings),
    )
    # What a killed launcher leaves behind comes to us, to be killed (see worker.child).
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        _run(workplace, kind)
        return 0
    finally:
        workplace.engine.close()
        database.dispose()


def _run(workplace: Workplace, kind: Kind) -> None:
    settings = workplace.settings
    _use_temporary_folder(settings)
    _compile_engine()
    workplace.engine.prepare()
    stop_before_start(workplace.stop)
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port + kind.metrics_port_offset, settings.worker_metrics_host)
    if not _wait_for_tables(workplace):
        return
    workshop = Workshop(workplace, kind.take)
    app = make_worker_app(settings, kind.queue, workshop.work)
    wakeup = Wakeup(settings)
    poller = Poller(
        workplace,
        workshop,
        has_waiting=lambda session: kind.has_waiting(session, workplace.capacity),
        wake=lambda: kind.wake(wakeup),
    )
    housekeeper = Housekeeper(workplace)
    presence = None if workplace.capacity is None else Presence(workplace, workplace.capacity)
    if presence is not None:
        presence.start()
    poller.start()
    housekeeper.start()
    kind.wake(wakeup)  # for what waited while no worker was there
    log.info("worker_started", worker=workplace.worker, has=workplace.capacity and workplace.capacity.in_words())
    try:
        run_worker(app, kind.queue, workplace.worker, workplace.stop)
    finally:
        workplace.stop.set()
        poller.join()
        housekeeper.join()
        if presence is not None:
            presence.end()
        wakeup.close()
        log.info("worker_ended", worker=workplace.worker)


def _tell_of_jail(settings: Settings, walls: Available) -> None:
    metrics.WALL.labels("landlock").set(walls.landlock)
    metrics.WALL.labels("seccomp").set(walls.seccomp)
    metrics.WALL.labels("bubblewrap").set(walls.bubblewrap)
    say = log.info if walls.is_complete else log.warning
    say("jail", mode=settings.jail, landlock=walls.landlock, seccomp=walls.seccomp, bubblewrap=walls.bubblewrap)
    if walls.landlock and (open_to := exposed(settings)):
        log.warning("data_folder_readable", through=open_to, advice="move MODELPRESS_HOME out of what engines may read")


def _compile_engine() -> None:
    """As an engine cannot keep what it compiles: it may write nowhere near its own code."""
    compileall.compile_dir(Path(modelpress.__file__).parent, quiet=2)


def _use_temporary_folder(settings: Settings) -> None:
    """The file-system broker moves messages through the temporary folder: that must lie on the same file system."""
    folder = settings.home / "tmp"
    folder.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(folder)


def _wait_for_tables(workplace: Workplace) -> bool:
    """Wait until the database answers and has tables for this code; False when told to end before."""
    while not workplace.stop.is_set():
        if _is_ready(workplace.database):
            return True
        workplace.stop.wait(DATABASE_WAIT_SECONDS)
    return False


def _is_ready(database: Database) -> bool:
    try:
        if database.is_compatible():
            return True
        log.warning("database_not_migrated", advice="run `python -m service.admin migrate`")
    except PASSING as error:
        log.warning("database_unreachable", error=type(error).__name__)
    return False


if __name__ == "__main__":
    sys.exit(main())
