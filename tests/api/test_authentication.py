"""Who may do what."""

from __future__ import annotations

import socket

import httpx
import pytest
from sqlalchemy import select

from db.models import ApiKey
from db.queries.teams import create_key, revoke_key
from tests.support.api_server import ApiServer, Tenant
from tests.support.patience import until
from tests.support.problems import read_problem
from tests.support.uploads import npz_file

OPEN = {"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/docs/oauth2-redirect"}


def all_operations(server: ApiServer) -> list[tuple[str, str]]:
    paths = server.app.openapi()["paths"]
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in paths.items()
        for method in operations
        if path not in OPEN
    ]


def test_nothing_but_health_and_documentation_is_open(server: ApiServer) -> None:
    stranger = server.client()
    operations = all_operations(server)
    assert len(operations) >= 19
    for method, path in operations:
        body = {"json": {}} if method == "POST" else {}
        response = stranger.request(method, path, **body)
        found = read_problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert "Authorization: Bearer" in found.detail
    for path in OPEN - {"/docs/oauth2-redirect"}:
        assert stranger.get(path).status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer mp_wrong", "Bearer", "Basic bXBfeDp5", "mp_wrong", "Bearer mp_é".encode("latin-1")]
)
def test_keys_that_are_none(server: ApiServer, header: str | bytes) -> None:
    response = server.client().get(
        "/v1/jobs", headers=[(b"Authorization", header if isinstance(header, bytes) else header.encode())]
    )
    read_problem(response, 401, "unauthenticated")


def test_a_body_is_not_read_before_it_is_known_who_calls(server: ApiServer) -> None:
    """Nor waited for: whoever has no key would hold a connection and a megabyte for as long as they like."""
    address = httpx.URL(server.url)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    for key in ("", "Authorization: Bearer mp_wrong\r\n"):
        with socket.create_connection((address.host, address.port), timeout=30) as connection:
            connection.sendall(f"{head}{key}\r\n[".encode())
            assert connection.recv(64).startswith(b"HTTP/1.1 401 ")


def test_a_revoked_key(server: ApiServer, tenant: Tenant) -> None:
    with server.database.session() as session:
        key, plaintext = create_key(session, tenant.team_id, "old", frozenset({"read"}))
    client = server.client(plaintext)
    assert client.get("/v1/jobs").status_code == 200
    with server.database.session() as session:
        revoke_key(session, tenant.team_id, key.id)
    assert "revoked" in read_problem(client.get("/v1/jobs"), 401, "unauthenticated").detail


def test_scopes(server: ApiServer, tenant: Tenant) -> None:
    reader = server.client(server.new_key(tenant.team_id, "read"))
    writer = server.client(server.new_key(tenant.team_id, "write"))
    for method, path in all_operations(server):
        writes = method in ("POST", "DELETE")
        for client, allowed in ((reader, not writes), (writer, writes)):
            response = client.request(method, path, **({"json": {}} if method == "POST" else {}))
            if allowed:
                assert response.status_code not in (401, 403), path
            else:
                found = read_problem(response, 403, "forbidden")
                assert f"`{'write' if writes else 'read'}`" in found.detail


def test_another_teams_uploads_are_not_there(server: ApiServer, client: httpx.Client) -> None:
    dataset = client.post("/v1/datasets", content=npz_file()).json()["id"]
    other = server.new_tenant("other").client
    read_problem(other.get(f"/v1/datasets/{dataset}"), 404, "not-found")
    read_problem(other.delete(f"/v1/datasets/{dataset}"), 404, "not-found")
    assert other.get("/v1/datasets").json()["items"] == []
    assert client.get(f"/v1/datasets/{dataset}").status_code == 200


@pytest.mark.parametrize("path", ["/v1/methods", "/v1/jobs/job_guessed"])
def test_the_use_of_a_key_is_noted(server: ApiServer, tenant: Tenant, path: str) -> None:
    def last_used() -> object:
        with server.database.session(read_only=True) as session:
            return session.scalar(select(ApiKey.last_used_at).where(ApiKey.team_id == tenant.team_id))

    assert last_used() is None
    tenant.client.get(path)
    # Noted after the answer.
    until(lambda: last_used() is not None)
    noted = last_used()
    tenant.client.get("/v1/methods")
    assert last_used() == noted
