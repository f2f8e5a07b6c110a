"""The real API on a free port: uvicorn in a thread, a team with keys, and a database to play the worker in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from db.database import Database, open_database
from db.queries.claims import ClaimedJob, add_artifact, append_events, claim_job, fail, succeed
from db.queries.teams import create_key, create_team
from db.queries.workers import renew_worker
from modelpress.spec.event import Progress, StageDone, Warned
from modelpress.spec.failure import Failure
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.needs import Capacity
from service.settings import Settings
from storage.store import Store
from tests.support.reports import a_report
from tests.support.rows import inspect
from tests.support.uploads import dataset_inspection, model_inspection, npz_file, safetensors_file


@dataclass(frozen=True)
class Tenant:
    """A team, and a client that shows its key."""

    team_id: str
    key: str
    client: httpx.Client


class ApiServer:
    """A running API, and the database behind it."""

    def __init__(self, url: str, app: FastAPI, settings: Settings, database: Database) -> None:
        self.url = url
        self.app = app
        self.settings = settings
        self.database = database
        self._clients: list[httpx.Client] = []

    def client(self, key: str | None = None) -> httpx.Client:
        """A client of this server."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=60)
        self._clients.append(client)
        return client

    def new_tenant(self, name: str = "team", scopes: frozenset[str] = frozenset({"read", "write"})) -> Tenant:
        """A new team with one key."""
        with self.database.session() as session:
            team = create_team(session, name)
            _, key = create_key(session, team.id, "key", scopes)
        return Tenant(team.id, key, self.client(key))

    def new_key(self, team_id: str, *scopes: str) -> str:
        """One more key of a team."""
        with self.database.session() as session:
            return create_key(session, team_id, "key", frozenset(scopes))[1]

    def inspect(self, result: ModelInspection | DatasetInspection | Failure) -> None:
        """Play the worker: finish the inspection that waits longest."""
        inspect(self.database, result)

    def upload_ready(self, client: httpx.Client) -> tuple[str, str]:
        """Ids of a model and a data set that were uploaded and inspected, and fit each other."""
        model = client.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file())
        self.inspect(model_inspection())
        dataset = client.post("/v1/datasets", content=npz_file())
        self.inspect(dataset_inspection())
        return model.json()["id"], dataset.json()["id"]

    def be_there(self, worker: str, capacity: Capacity, seconds: float = 30.0) -> None:
        """Play a worker that says what it has."""
        with self.database.session() as session:
            renew_worker(session, worker, capacity, seconds)

    def claim(self) -> ClaimedJob:
        """Play the worker: take the next job."""
        with self.database.session() as session:
            claimed = claim_job(session, "tester", 30)
        assert claimed is not None
        return claimed

    def tell(self, job: ClaimedJob, *events: Progress | StageDone | Warned) -> None:
        """Play the worker: relay what the engine says."""
        with self.database.session() as session:
            assert append_events(session, job.id, job.attempt, events)

    def keep(self, job: ClaimedJob, kind: str, filename: str, content: bytes, content_type: str) -> str:
        """Play the worker: keep a file that the job made. Gives its hash."""
        store: Store = self.app.state.services.store
        with store.open_writer() as writer:
            writer.write(content)
            stored = writer.commit()
        with self.database.session() as session:
            assert add_artifact(
                session,
                job.id,
                job.attempt,
                kind=kind,
                filename=filename,
                size=stored.size,
                sha256=stored.sha256,
                content_type=content_type,
            )
        return stored.sha256

    def succeed(self, job: ClaimedJob) -> None:
        """Play the worker: the job is done."""
        with self.database.session() as session:
            assert succeed(session, job.id, job.attempt, a_report())

    def fail(self, job: ClaimedJob, failure: Failure) -> None:
        """Play the worker: the job has failed."""
        with self.database.session() as session:
            assert fail(session, job.id, job.attempt, failure)

    def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            client.close()


@contextmanager
def run_api(settings: Settings) -> Iterator[ApiServer]:
    """Run the API until the end of the block. The database must be migrated."""
    app = create_app(settings)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    database = open_database(settings.database_url)
    running = ApiServer(f"http://127.0.0.1:{port}", app, settings, database)
    try:
        yield running
    finally:
        running.close()
        server.should_exit = True
        thread.join()
        database.dispose()
