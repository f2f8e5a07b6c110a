"""Jobs that are deleted, over HTTP; the worker is played through the database."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from api.dependencies import Services
from modelpress.spec.resources import Job, Model
from storage.store import NotStored, StoreUnavailable
from tests.conftest import DIALECTS
from tests.support.api_server import ApiServer, Tenant
from tests.support.problems import read_problem
from tests.support.uploads import model_inspection, safetensors_file

FILES = {"model.mpz": b"a smaller model", "model.safetensors": safetensors_file(seed=7)}
LOG = b"done\n"


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def services(server: ApiServer) -> Services:
    found: Services = server.app.state.services
    return found


@pytest.fixture
def spec(server: ApiServer, client: httpx.Client) -> dict[str, Any]:
    model, dataset = server.upload_ready(client)
    return {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}


@pytest.fixture
def done(server: ApiServer, client: httpx.Client, spec: dict[str, Any]) -> Job:
    """A job that was run and left two files."""
    job = Job.model_validate(client.post("/v1/jobs", json=spec).json())
    claimed = server.claim()
    for name, content in FILES.items():
        kind = {"model.mpz": "compact"}.get(name, "safetensors")
        server.keep(claimed, kind, name, content, "application/octet-stream")
    server.keep(claimed, "log", "log.txt", LOG, "text/plain")
    server.succeed(claimed)
    return job


def files_of(client: httpx.Client, job: Job) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/v1/jobs/{job.id}/artifacts").json()
    return found


def test_nothing_of_it_is_left(client: httpx.Client, services: Services, done: Job) -> None:
    files = files_of(client, done)
    assert {file["filename"] for file in files} == set(FILES)
    path = f"/v1/jobs/{done.id}"
    answer = client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    for route in ("", "/report", "/log", "/events", "/artifacts"):
        read_problem(client.get(f"{path}{route}"), 404, "not-found")
    for file in files:
        read_problem(client.get(f"/v1/artifacts/{file['id']}/content"), 404, "not-found")
        assert not services.store.exists(file["sha256"])
    assert client.get("/v1/jobs").json()["items"] == []
    read_problem(client.delete(path), 404, "not-found")
    # What it worked with stays.
    assert client.get(f"/v1/models/{done.spec.model}").status_code == 200


def test_the_same_job_is_run_anew(client: httpx.Client, spec: dict[str, Any], done: Job) -> None:
    assert client.post("/v1/jobs", params={"dry_run": "true"}, json=spec).json()["reused_from"] == done.id
    client.delete(f"/v1/jobs/{done.id}")
    assert client.post("/v1/jobs", params={"dry_run": "true"}, json=spec).json()["reused_from"] is None
    assert client.post("/v1/jobs", json=spec).json()["state"] == "queued"


def test_who_has_its_result_still_downloads_it(
    client: httpx.Client, services: Services, spec: dict[str, Any], done: Job
) -> None:
    again = Job.model_validate(client.post("/v1/jobs", json=spec).json())
    assert again.reused_from == done.id
    client.delete(f"/v1/jobs/{done.id}")
    files = files_of(client, again)
    content = {file["filename"]: client.get(f"/v1/artifacts/{file['id']}/content").content for file in files}
    assert content == FILES
    client.delete(f"/v1/jobs/{again.id}")
    assert not any(services.store.exists(file["sha256"]) for file in files)


def test_a_model_of_its_file_stays(server: ApiServer, client: httpx.Client, services: Services, done: Job) -> None:
    upload = client.post("/v1/models", params={"architecture": "snn_1k"}, content=FILES["model.safetensors"])
    server.inspect(model_inspection())
    path = f"/v1/models/{upload.json()['id']}"
    before = Model.model_validate(client.get(path).json())
    assert before.derived_from is not None
    assert before.derived_from.job == done.id
    client.delete(f"/v1/jobs/{done.id}")
    assert Model.model_validate(client.get(path).json()) == before.model_copy(update={"derived_from": None})
    assert services.store.exists(before.sha256)


@pytest.mark.parametrize("of", ["artifact", "log"])
def test_a_file_that_goes_while_it_is_asked_for_is_not_there(
    monkeypatch: pytest.MonkeyPatch, client: httpx.Client, services: Services, done: Job, of: str
) -> None:
    """It is lost only where its job is still there."""
    first = files_of(client, done)[0]
    path = f"/v1/artifacts/{first['id']}/content" if of == "artifact" else f"/v1/jobs/{done.id}/log"
    is_deleted = False

    def gone(sha256: str, *_: object) -> None:
        if is_deleted:
            client.delete(f"/v1/jobs/{done.id}")
        raise NotStored(f"nothing is stored under {sha256}")

    monkeypatch.setattr(services.store, "size", gone)
    monkeypatch.setattr(services.store, "read", gone)
    read_problem(client.get(path), 500, "content-lost")
    is_deleted = True
    read_problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
def test_one_that_is_not_over_is_refused(
    server: ApiServer, client: httpx.Client, spec: dict[str, Any], state: str
) -> None:
    path = f"/v1/jobs/{client.post('/v1/jobs', json=spec).json()['id']}"
    if state != "queued":
        server.claim()
    if state == "cancelling":
        client.post(f"{path}/cancel")
    detail = read_problem(client.delete(path), 409, "invalid-transition").detail
    assert detail == f"a job that is {state} cannot be deleted: wait for its end, or cancel it first"
    assert client.get(path).json()["state"] == state


def test_that_of_another_team_is_not_there(server: ApiServer, client: httpx.Client, done: Job) -> None:
    read_problem(server.new_tenant("other").client.delete(f"/v1/jobs/{done.id}"), 404, "not-found")
    assert len(files_of(client, done)) == len(FILES)


def test_a_key_that_may_only_read_deletes_nothing(
    server: ApiServer, tenant: Tenant, client: httpx.Client, done: Job
) -> None:
    reader = server.client(server.new_key(tenant.team_id, "read"))
    read_problem(reader.delete(f"/v1/jobs/{done.id}"), 403, "forbidden")
    assert len(files_of(client, done)) == len(FILES)


def test_a_store_that_is_away_takes_no_deletion_back(
    monkeypatch: pytest.MonkeyPatch, client: httpx.Client, services: Services, done: Job
) -> None:
    asked = []

    def delete(sha256: str) -> None:
        asked.append(sha256)
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(services.store, "delete", delete)
    files = {file["sha256"] for file in files_of(client, done)} | {hashlib.sha256(LOG).hexdigest()}
    with capture_logs() as said:
        assert client.delete(f"/v1/jobs/{done.id}").status_code == 204
    read_problem(client.get(f"/v1/jobs/{done.id}"), 404, "not-found")
    # It is asked once, not for each file; what is left is named, and dropped by a worker within a day.
    assert len(asked) == 1
    (warning,) = [line for line in said if line["event"] == "bytes_not_dropped"]
    assert set(warning["sha256"]) == files
