"""A job that is the same as one that succeeded, over HTTP; the worker is played through the database."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from modelpress.spec.report import Report
from modelpress.spec.resources import Artifact, Job, JobCheck
from storage.store import Store, StoreUnavailable
from tests.conftest import DIALECTS
from tests.support.api_server import ApiServer
from tests.support.uploads import dataset_inspection, model_inspection, npz_file, safetensors_file

FILE = b"a smaller model"
PRUNE = {"kind": "prune", "sparsity": 0.5}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spec(server: ApiServer, client: httpx.Client) -> dict[str, Any]:
    model, dataset = server.upload_ready(client)
    return {"model": model, "dataset": dataset, "steps": [PRUNE]}


@pytest.fixture
def done(server: ApiServer, client: httpx.Client, spec: dict[str, Any]) -> Job:
    """A job that was run."""
    job = submit(client, spec)
    claimed = server.claim()
    server.keep(claimed, "compact", "model.mpz", FILE, "application/octet-stream")
    server.succeed(claimed)
    return job


def submit(client: httpx.Client, spec: dict[str, Any], **headers: str) -> Job:
    response = client.post("/v1/jobs", json=spec, headers=headers)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"
    return Job.model_validate(response.json())


def test_it_has_succeeded_at_once_with_files_of_its_own(client: httpx.Client, spec: dict[str, Any], done: Job) -> None:
    job = submit(client, spec | {"name": "again", "priority": 2})
    assert (job.state, job.reused_from, job.name) == ("succeeded", done.id, "again")
    assert (job.attempt, job.attempts, job.queue_position) == (0, (), None)
    assert job.ratios is not None
    assert job.progress is not None
    assert job.progress.fraction == 1
    report = Report.model_validate(client.get(f"/v1/jobs/{job.id}/report").json())
    assert report.provenance.reused_from == done.id
    (artifact,) = [Artifact.model_validate(each) for each in client.get(f"/v1/jobs/{job.id}/artifacts").json()]
    assert (artifact.job, artifact.filename) == (job.id, "model.mpz")
    assert client.get(f"/v1/artifacts/{artifact.id}/content").content == FILE
    # It was done by no worker: its log is what happened to it.
    assert f"it is the same as {done.id}" in client.get(f"/v1/jobs/{job.id}/log").text
    events = client.get(f"/v1/jobs/{job.id}/events").text
    assert f"it is the same as {done.id}" in events
    assert client.get(f"/v1/jobs/{done.id}").json()["reused_from"] is None


def test_the_same_bytes_uploaded_again_are_the_same(
    server: ApiServer, client: httpx.Client, spec: dict[str, Any], done: Job
) -> None:
    model = client.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file()).json()["id"]
    server.inspect(model_inspection())
    dataset = client.post("/v1/datasets", content=npz_file()).json()["id"]
    server.inspect(dataset_inspection())
    assert submit(client, spec | {"model": model, "dataset": dataset}).reused_from == done.id


def test_it_can_be_run_all_the_same(server: ApiServer, client: httpx.Client, spec: dict[str, Any], done: Job) -> None:
    job = submit(client, spec | {"reuse": False})
    assert (job.state, job.reused_from, job.spec.reuse) == ("queued", None, False)
    assert server.claim().twin is None


def test_a_dry_run_says_so(client: httpx.Client, spec: dict[str, Any], done: Job) -> None:
    def check(**changes: Any) -> JobCheck:
        response = client.post("/v1/jobs", params={"dry_run": "true"}, json=spec | changes)
        assert response.status_code == 200
        return JobCheck.model_validate(response.json())

    assert check().reused_from == done.id
    assert check(reuse=False).reused_from is None
    assert check(seed=1).reused_from is None
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_key_names_the_same_job(client: httpx.Client, spec: dict[str, Any], done: Job) -> None:
    key = {"Idempotency-Key": "mine"}
    first, second = submit(client, spec, **key), submit(client, spec, **key)
    assert first == second
    assert first.reused_from == done.id


def test_without_its_bytes_it_is_run(server: ApiServer, client: httpx.Client, spec: dict[str, Any], done: Job) -> None:
    store: Store = server.app.state.services.store
    (artifact,) = client.get(f"/v1/jobs/{done.id}/artifacts").json()
    store.delete(artifact["sha256"])
    assert submit(client, spec).state == "queued"


def test_a_store_that_does_not_answer_keeps_no_job_from_being_accepted(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer, client: httpx.Client, spec: dict[str, Any], done: Job
) -> None:
    """Asked within the transaction, PostgreSQL would cut it off after ten seconds."""
    accepted = []

    def exists(_sha256: str) -> bool:
        accepted.append(len(client.get("/v1/jobs").json()["items"]))
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(server.app.state.services.store, "exists", exists)
    assert submit(client, spec).state == "queued"
    assert accepted == [2]


def test_whatever_keeps_it_from_its_result_a_job_that_was_accepted_is_told_of(
    monkeypatch: pytest.MonkeyPatch, client: httpx.Client, spec: dict[str, Any], done: Job
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("UPDATE", None, ConnectionError("it is gone"))

    monkeypatch.setattr("db.queries.jobs.take_result", fail)
    assert submit(client, spec).state == "queued"


def test_another_team_has_to_run_it(server: ApiServer, done: Job) -> None:
    other = server.new_tenant("other").client
    model, dataset = server.upload_ready(other)
    assert submit(other, {"model": model, "dataset": dataset, "steps": [PRUNE]}).state == "queued"
