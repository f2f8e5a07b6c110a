"""What every request has: an id, a line in the log, and a problem document when something breaks."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from structlog.testing import LogCapture

from tests.conftest import DIALECTS
from tests.support.api_server import ApiServer
from tests.support.problems import read_problem


@pytest.fixture
def logged() -> LogCapture:
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture], cache_logger_on_first_use=False)
    yield capture
    structlog.configure(**before)


def test_an_id_is_given_or_taken_over(server: ApiServer) -> None:
    client = server.client()
    first, second = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert first.startswith("req_")
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    for insane in ("", "a b", "x" * 129, "a\tb", 'a"b', "é".encode()):
        answer = client.get(
            "/healthz", headers=[(b"X-Request-ID", insane if isinstance(insane, bytes) else insane.encode())]
        )
        assert answer.headers["x-request-id"].startswith("req_")


def test_every_request_is_a_line(server: ApiServer, client: httpx.Client, logged: LogCapture) -> None:
    response = client.get("/v1/jobs/job_x?wait=1", headers={"X-Request-ID": "abc"})
    assert response.status_code == 404
    (line,) = [entry for entry in logged.entries if entry["event"] == "request"]
    assert {key: line[key] for key in ("method", "path", "route", "status", "request_id", "body_bytes")} == {
        "method": "GET",
        "path": "/v1/jobs/job_x",
        "route": "/v1/jobs/{job_id}",
        "status": 404,
        "request_id": "abc",
        "body_bytes": 0,
    }
    assert line["team"].startswith("team_")
    assert line["seconds"] >= 0
    assert client.headers["authorization"].removeprefix("Bearer ") not in str(logged.entries)


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/jobs/a/b/c", "/v1/models/", "//", "/v1/%00", "/v1/jobs%2F"])
def test_an_address_without_anything(client: httpx.Client, path: str) -> None:
    assert "/docs" in read_problem(client.get(path), 404, "no-such-path").detail


def test_a_method_that_is_not_taken(client: httpx.Client) -> None:
    for method, path in (("PUT", "/v1/jobs"), ("POST", "/healthz"), ("PATCH", "/v1/models/x"), ("TRACE", "/v1/jobs")):
        read_problem(client.request(method, path), 405, "method-not-allowed")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ids_that_are_none_are_not_found(client: httpx.Client) -> None:
    for thing in ("mdl_0", "%00", "%F0%9F%99%82", "x" * 5000, "'; DROP TABLE jobs; --", "..%2F.."):
        for path in (
            f"/v1/models/{thing}",
            f"/v1/datasets/{thing}",
            f"/v1/jobs/{thing}",
            f"/v1/artifacts/{thing}/content",
        ):
            assert client.get(path).status_code == 404, path
    for query in ({"model": "\0"}, {"after": "\0"}):
        assert client.get("/v1/jobs", params=query).json()["items"] == []
    for odd in ("mdl\\u0000", "mdl\\ud800"):
        spec = f'{{"model": "{odd}", "steps": [{{"kind": "prune", "sparsity": 0.5}}]}}'
        answer = client.post("/v1/jobs", content=spec, headers={"Content-Type": "application/json"})
        assert answer.status_code in (404, 422), answer.text


def test_odd_headers_are_no_errors_of_ours(client: httpx.Client) -> None:
    headers = {"Content-Digest": "sha-256=:é:".encode(), "Content-Type": b"application/octet-stream"}
    answer = client.post("/v1/datasets", content=b"x", headers=headers)
    assert read_problem(answer, 422, "invalid-request").errors[0].where == "Content-Digest"


def test_an_error_that_nobody_foresaw_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, client: httpx.Client, logged: LogCapture
) -> None:
    def explode(*_args: object, **_more: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("db.queries.jobs.list_jobs", explode)
    response = client.get("/v1/jobs", headers={"X-Request-ID": "abc"})
    found = read_problem(response, 500, "internal")
    assert "swordfish" not in response.text
    assert "abc" in found.detail
    (line,) = [entry for entry in logged.entries if entry["event"] == "unexpected error"]
    assert line["request_id"] == "abc"
    assert "swordfish" in str(line["exc_info"])
    assert client.get("/v1/jobs/job_x").status_code == 404


def test_an_error_in_the_middle_of_an_answer_breaks_it_off(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer, client: httpx.Client
) -> None:
    model, dataset = server.upload_ready(client)
    spec = {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    job = client.post("/v1/jobs", json=spec).json()["id"]

    def explode(_event: object) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr("api.transcript._words", explode)
    # Not a whole answer that looks like an empty log.
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"/v1/jobs/{job}/log")
    assert client.get(f"/v1/jobs/{job}").status_code == 200


def test_bytes_that_are_no_request(server: ApiServer) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert server.client().get("/healthz").status_code == 200
