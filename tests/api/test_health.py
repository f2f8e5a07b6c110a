"""Health that tells the truth, held against parts that are really stopped."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from db.database import open_database
from service.jail.walls import active_walls
from service.settings import Settings
from tests.support.api_server import ApiServer, Tenant, run_api
from tests.support.free_port import free_port
from tests.support.problems import read_problem
from tests.support.redis import redis_server
from tests.support.uploads import npz_file


def readiness(server: ApiServer) -> tuple[int, dict[str, tuple[bool, str]]]:
    response = server.client().get("/readyz")
    body = response.json()
    assert body["ready"] is all(check["ok"] for check in body["checks"])
    assert [check["name"] for check in body["checks"]] == ["database", "store", "broker"]
    return response.status_code, {check["name"]: (check["ok"], check["detail"]) for check in body["checks"]}


def test_all_is_well(server: ApiServer) -> None:
    status, checks = readiness(server)
    assert status == 200
    assert all(ok for ok, _ in checks.values())
    jail = {"mode": "auto", **asdict(active_walls("auto"))}
    assert server.client().get("/readyz").json()["jail"] == jail
    assert server.client().get("/healthz").json() == {"status": "alive"}


def test_a_store_whose_folder_is_gone(server: ApiServer, settings: Settings) -> None:
    (settings.home / "store").rename(settings.home / "gone")
    status, checks = readiness(server)
    assert status == 503
    assert [name for name, (ok, _) in checks.items() if not ok] == ["store"]
    # Names of folders and hosts are for the log: anybody may read this page.
    assert str(settings.home) not in checks["store"][1]
    (settings.home / "gone").rename(settings.home / "store")
    assert readiness(server)[0] == 200


def test_a_redis_that_stopped(settings: Settings) -> None:
    with redis_server() as url, run_api(settings.model_copy(update={"broker_url": url})) as server:
        assert readiness(server)[0] == 200
    with run_api(settings.model_copy(update={"broker_url": url})) as server:
        status, checks = readiness(server)
        assert status == 503
        assert [name for name, (ok, _) in checks.items() if not ok] == ["broker"]
        # What is accepted is accepted: workers look for work by themselves.
        tenant = server.new_tenant()
        assert tenant.client.post("/v1/datasets", content=npz_file()).status_code == 201


def test_a_database_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    nobody = f"postgresql://user:very-secret@127.0.0.1:{free_port()}/nothing"
    url = f"sqlite:///{tmp_path / 'other.db'}"
    open_database(url).migrate()
    with run_api(settings.model_copy(update={"database_url": nobody})) as server:
        status, checks = readiness(server)
        assert status == 503
        assert [name for name, (ok, _) in checks.items() if not ok] == ["database"]
        response = server.client("mp_any").get("/v1/jobs")
        found = read_problem(response, 503, "database-unavailable")
        assert response.headers["retry-after"] == "5"
        assert "very-secret" not in response.text + str(checks)
        assert "127.0.0.1" not in found.detail
        metrics = server.client().get("/metrics")
        assert metrics.status_code == 200
        assert "modelpress_http_requests_total" in metrics.text


def test_a_database_that_was_not_migrated(settings: Settings, tmp_path: Path) -> None:
    with run_api(settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'empty.db'}"})) as server:
        status, checks = readiness(server)
        assert status == 503
        assert checks["database"] == (
            False,
            "answers, but its tables are empty and not those of this version; run the migration",
        )


def test_figures(server: ApiServer, tenant: Tenant) -> None:
    def value(name: str, **labels: str) -> float | None:
        text = server.client().get("/metrics").text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    client = tenant.client
    model, dataset = server.upload_ready(client)
    spec = {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    first = client.post("/v1/jobs", json=spec).json()["id"]
    client.post("/v1/jobs", json=spec)
    server.claim()
    client.get(f"/v1/jobs/{first}")
    client.get("/v1/jobs/job_x")
    client.request("PROPFIND", "/coffee")

    route = "/v1/jobs/{job_id}"
    assert value("modelpress_http_requests_total", method="GET", route=route, status="200") == 1
    assert value("modelpress_http_requests_total", method="GET", route=route, status="404") == 1
    assert value("modelpress_http_requests_total", method="other", route="unmatched", status="404") == 1
    assert value("modelpress_http_request_seconds_count", method="POST", route="/v1/jobs", status="202") == 2
    assert value("modelpress_upload_bytes_total", route="/v1/datasets") == len(npz_file())
    assert value("modelpress_jobs", state="queued") == 1
    assert value("modelpress_jobs", state="running") == 1
    assert value("modelpress_jobs", state="cancelling") == 0
    waited = value("modelpress_oldest_waiting_job_seconds")
    assert waited is not None
    assert 0 < waited < 600
    assert value("process_resident_memory_bytes") is not None


def test_figures_of_two_applications_do_not_mix(server: ApiServer, settings: Settings, tmp_path: Path) -> None:
    server.client().get("/healthz")
    with run_api(settings.model_copy(update={"home": tmp_path / "other"})) as other:
        assert 'route="/healthz"' not in other.client().get("/metrics").text
    assert 'route="/healthz"' in server.client().get("/metrics").text
