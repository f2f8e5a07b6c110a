"""A whole service under test: its API and its workers as processes, on one back end, with a team that uses it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from sqlalchemy import func, select

from benchmarks.services import api_command
from db.database import Database, open_database
from db.models import Attempt, Job
from db.queries.teams import SCOPES, create_key, create_team
from modelpress.spec.state import FINAL_STATES, JobState
from tests.faults.back_ends import BackEnd
from tests.faults.member import Member
from tests.support import scripted_engine
from tests.support.free_port import free_port
from tests.support.patience import comes_true
from tests.support.processes import service_environment
from tests.support.reports import a_report
from tests.support.rows import inspect
from tests.support.uploads import dataset_inspection, model_inspection, npz_file, safetensors_file

READY_SECONDS = 90.0
ANSWER_SECONDS = 60.0

# Short, so that a lost job is soon taken up; every bound that is checked is told from it.
LEASE_SECONDS = 3.0

# Of the scripted engine: a job takes about a second, and its files take a while to be stored.
EPOCH_SECONDS = 0.12
ARTIFACT_BYTES = 1 << 20


@dataclass
class Site:
    """A running service, as whoever hurts and checks it sees it."""

    home: Path
    back_end: BackEnd
    database: Database  # not the way that the service's own processes take
    ports: list[int]
    apis: list[Member]
    workers: list[Member]
    team_id: str
    key: str = field(repr=False)
    lease_seconds: float = LEASE_SECONDS
    model: str = ""
    dataset: str = ""
    inspectors: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = [
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=ANSWER_SECONDS,
                limits=httpx.Limits(max_connections=None),
            )
            for port in self.ports
        ]

    @property
    def members(self) -> list[Member]:
        """Every process of the service."""
        return [*self.apis, *self.workers, *self.inspectors]

    def client(self, draw: Random | None = None) -> httpx.Client:
        """A client of the first API, or of any, that shows the team's key. Shared by all threads."""
        return self.clients[0 if draw is None else draw.randrange(len(self.clients))]

    def is_ready(self, number: int) -> bool:
        """Whether the API of this number answers that it can do everything."""
        try:
            return self.clients[number].get("/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def held_jobs(self) -> list[tuple[str, int, str]]:
        """Id, attempt and worker of each job that a worker holds."""
        held = (JobState.RUNNING, JobState.CANCELLING)
        query = select(Job.id, Job.attempt, Job.worker).where(Job.team_id == self.team_id, Job.state.in_(held))
        with self.database.session(read_only=True) as session:
            return [(job_id, attempt, worker or "") for job_id, attempt, worker in session.execute(query)]

    def unfinished(self) -> int:
        """How many jobs are not at their end."""
        query = select(func.count()).where(Job.team_id == self.team_id, Job.state.not_in(FINAL_STATES))
        with self.database.session(read_only=True) as session:
            return session.scalar(query) or 0

    def attempt(self, job_id: str, number: int) -> Attempt | None:
        """One attempt as it stands now."""
        with self.database.session(read_only=True) as session:
            return session.get(Attempt, (job_id, number))

    def end(self) -> list[int | None]:
        """End every process as a deploy does; gives their exit codes, None for one that had to be killed."""
        for client in self.clients:
            client.close()
        for member in self.members:
            member.tell_to_end()
        return [member.wait() for member in self.members]

    def restart_the_dead(self) -> list[str]:
        """As whoever runs the service does (a supervisor, a restart policy); gives the last words of each."""
        dead = [member for member in self.members if not member.is_running]
        for member in dead:
            member.start()
        return [f"a process died that nobody had hurt: {member.tail(3)}" for member in dead]


@contextmanager
def running_site(
    home: Path,
    back_end: BackEnd,
    *,
    workers: int = 2,
    apis: int = 1,
    lease_seconds: float = LEASE_SECONDS,
    settings: Mapping[str, object] | None = None,
    upload: Callable[[Site], None] | None = None,
) -> Iterator[Site]:
    """Start a service with the scripted engine, make a team, upload a model and a data set; end all after the block.

    With `upload`, which then uploads both, it is a service with the engine itself, and with an inspector.
    """
    home.mkdir(parents=True, exist_ok=True)
    asked: dict[str, object] = {
        "home": home,
        **back_end.settings,
        **({} if upload or "engine_command" in (settings or {}) else {"engine_command": engine_command(home)}),
        "lease_seconds": lease_seconds,
        "poll_seconds": 0.5,
        "max_attempts": 100,  # else a job that is hit again and again fails, as it should
        "checkpoint_seconds": 0,
        "disk_reserve_bytes": 0,
        "device": "cpu",
        "threads": 1,
        **(settings or {}),
    }
    environment = service_environment(**{name: str(value) for name, value in asked.items()})
    database = open_database(back_end.database_url)
    database.migrate()
    with database.session() as session:
        team = create_team(session, "faults")
        _, key = create_key(session, team.id, "faults", SCOPES)
    ports = [free_port() for _ in range(apis)]
    site = Site(
        home,
        back_end,
        database,
        ports,
        [Member(api_command(port), environment, home / f"api-{number}.log") for number, port in enumerate(ports)],
        [
            Member([sys.executable, "-m", "worker", "jobs"], environment, home / f"worker-{number}.log")
            for number in range(workers)
        ],
        team.id,
        key,
        lease_seconds,
    )
    if upload is not None:
        site.inspectors.append(
            Member([sys.executable, "-m", "worker", "inspections"], environment, home / "inspector.log")
        )
    try:
        for member in site.members:
            member.start()
        for number in range(apis):
            _await_ready(site, number)
        (upload or _upload)(site)
        yield site
    finally:
        codes = site.end()
        database.dispose()
    assert codes.count(None) == 0, f"processes that did not end when they were told to: {codes}"


def engine_command(home: Path, *, epoch_seconds: float = EPOCH_SECONDS, artifact_bytes: int = ARTIFACT_BYTES) -> str:
    """The setting `engine_command` for the engine whose result is a chain of hashes."""
    script = home / "script.json"
    report: dict[str, Any] = json.loads(a_report().model_dump_json())
    play = {"epoch_seconds": epoch_seconds, "artifact_bytes": artifact_bytes, "report": report}
    script.write_text(json.dumps(play))
    return f"{sys.executable} {scripted_engine.__file__} chain {script}"


def _await_ready(site: Site, number: int) -> None:
    member = site.apis[number]
    assert comes_true(lambda: site.is_ready(number) or not member.is_running, READY_SECONDS), member.tail()
    assert member.is_running, member.tail()


def _upload(site: Site) -> None:
    """A model and a data set, inspected: the inspector is played, as the real one needs torch."""
    client = site.client()
    model = client.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file()).raise_for_status()
    inspect(site.database, model_inspection())
    dataset = client.post("/v1/datasets", content=npz_file()).raise_for_status()
    inspect(site.database, dataset_inspection())
    site.model, site.dataset = model.json()["id"], dataset.json()["id"]
