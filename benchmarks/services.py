"""The service's own processes, started for a benchmark as `modelpress-serve` and the images start them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.database import Database, open_database
from db.queries.teams import SCOPES, create_key, create_team
from tests.support.free_port import free_port
from tests.support.processes import running, wait_until_ready


@dataclass(frozen=True)
class Api:
    """A running API."""

    process: subprocess.Popen[bytes]
    port: int
    key: str
    team_id: str
    database: Database

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def api_command(port: int) -> list[str]:
    """The API's command."""
    application = ["uvicorn", "api.app:create_app", "--factory", "--no-access-log"]
    return [sys.executable, "-m", *application, "--host", "127.0.0.1", "--port", str(port)]


@contextmanager
def run_api(environment: Mapping[str, str], folder: Path, database_url: str | None = None) -> Iterator[Api]:
    """Migrate the database, make a key, start the API and wait for it. Logs go to `folder`."""
    database = open_database(database_url or f"sqlite:///{folder}/modelpress.db")
    database.migrate()
    with database.session() as session:
        team = create_team(session, "benchmark")
        _, key = create_key(session, team.id, "benchmark", SCOPES)
    port = free_port()
    log = folder / "api.log"
    with running(api_command(port), environment, log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", process, log)
        yield Api(process, port, key, team.id, database)
    database.dispose()


@contextmanager
def run_workers(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """One worker for jobs and one for inspections."""
    with (
        running([sys.executable, "-m", "worker", "jobs"], environment, folder / "jobs.log"),
        running([sys.executable, "-m", "worker", "inspections"], environment, folder / "inspections.log"),
    ):
        yield
