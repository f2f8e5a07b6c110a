"""A service without its API: a database, a broker, a store, a team, and workers to start."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import pytest

from db.database import Database
from db.models import Dataset, Job, Model
from db.queries.jobs import get_job
from modelpress.spec.state import JobState
from service.jail.machine import prctl
from service.launch import PR_SET_CHILD_SUBREAPER
from service.settings import Settings
from service.wakeup import Wakeup
from storage.local import LocalStore
from tests.conftest import opened
from tests.support import scripted_engine
from tests.support.latency import LATENCY_SECONDS
from tests.support.processes import running, service_environment
from tests.support.reports import a_report
from tests.support.rows import Tenant, new_tenant

PATIENCE_SECONDS = 60.0
# Each kind of site is stopped by one of them: a worker takes both alike, whatever its queue is.
BY_ITS_SIGNALS = pytest.mark.parametrize(
    ("site", "number"), [("embedded", signal.SIGINT), ("production", signal.SIGTERM)], indirect=["site"]
)


def wait_for(
    condition: Callable[[], object],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    explain: Callable[[], str] = lambda: "",
) -> None:
    """Wait until `condition` gives something true."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(f"still waiting for {what} after {seconds:g} s\n{explain()}")
        time.sleep(0.02)


@dataclass
class Site:
    """What a worker needs to work, and what a test needs to see."""

    home: Path
    database: Database
    database_url: str
    broker_url: str
    store: LocalStore
    tenant: Tenant

    @property
    def settings(self) -> Settings:
        """As the workers read them."""
        return Settings(home=self.home, database_url=self.database_url, broker_url=self.broker_url)

    @property
    def report_path(self) -> Path:
        """A report for the scripted engine to take."""
        path = self.home / "report-template.json"
        path.write_text(a_report().model_dump_json())
        return path

    def engine(self, behaviour: str, argument: object = None) -> str:
        """The setting `engine_command` for a scripted engine."""
        return f"{sys.executable} {scripted_engine.__file__} {behaviour} {argument or self.report_path}"

    def work_files(self, name: str) -> list[Path]:
        """The files of this name in the work folders that are there."""
        return sorted((self.home / "work").glob(f"*/{name}"))

    def start_worker(
        self, kind: str = "jobs", *, log: str = "worker.log", by: Sequence[str] = (), **settings: object
    ) -> AbstractContextManager[Popen[bytes]]:
        """Run a real worker, by another command where given; ended after the block."""
        environment = service_environment(
            home=str(self.home),
            database_url=self.database_url,
            broker_url=self.broker_url,
            **{name: str(value) for name, value in ({"latency_seconds": LATENCY_SECONDS} | settings).items()},
        )
        return running([*by, sys.executable, "-m", "worker", kind], environment, self.home / log)

    def log(self, log: str = "worker.log") -> str:
        """What a worker said."""
        return (self.home / log).read_text()

    def store_model(self, content: bytes = b"weights") -> Model:
        """A model whose bytes are in the store."""
        path = self.home / "upload"
        path.write_bytes(content)
        return self.tenant.upload_model(sha256=self.store.put_file(path).sha256)

    def store_dataset(self, content: bytes = b"images") -> Dataset:
        """A data set whose bytes are in the store."""
        path = self.home / "upload"
        path.write_bytes(content)
        return self.tenant.upload_dataset(sha256=self.store.put_file(path).sha256)

    def submit(self, *, reuse: bool = False) -> Job:
        """A job for the scripted engine, and its wake-up; all of them are the same."""
        job = self.tenant.submit(self.store_model(), reuse=reuse)
        wakeup = Wakeup(self.settings)
        assert wakeup.jobs()
        wakeup.close()
        return job

    def job(self, job: Job) -> Job:
        """The job as it is now."""
        with self.database.session(read_only=True) as session:
            found = get_job(session, self.tenant.team_id, job.id)
        assert found is not None
        return found

    def wait_for_state(self, job: Job, *states: JobState) -> Job:
        """Wait until the job is in one of these states."""
        wait_for(lambda: self.job(job).state in states, " or ".join(states), explain=lambda: self.log()[-3000:])
        return self.job(job)


@pytest.fixture(params=["embedded", "production"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """SQLite with the file-system broker, then PostgreSQL with Redis."""
    yield from _site(request, tmp_path, str(request.param))


@pytest.fixture
def embedded_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """SQLite with the file-system broker, for what does not touch either."""
    yield from _site(request, tmp_path, "embedded")


def _site(request: pytest.FixtureRequest, home: Path, shape: str) -> Iterator[Site]:
    if shape == "embedded":
        template: Path = request.getfixturevalue("sqlite_template")
        (home / "modelpress.db").write_bytes(template.read_bytes())
        database_url, broker_url = f"sqlite:///{home}/modelpress.db", "filesystem://"
    else:
        database_url = request.getfixturevalue("new_postgres_url")()
        broker_url = request.getfixturevalue("redis_url")
    with opened(database_url) as database:
        database.migrate()
        yield Site(home, database, database_url, broker_url, LocalStore(home / "store"), new_tenant(database))


@pytest.fixture
def adopts() -> Iterator[None]:
    """What a killed launcher leaves comes to this process, as it does to a worker."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)
