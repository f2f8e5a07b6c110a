"""Uploads over HTTP: what is kept, what is refused, and that nothing half-visible stays."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import torch
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.queries import uploads
from db.queries.uploads import delete_model
from modelpress.spec import resources
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.network import CropCentre
from tests.api.conftest import UPLOAD_LIMIT
from tests.conftest import DIALECTS
from tests.support.api_server import ApiServer, Tenant
from tests.support.kept import assert_nothing_kept, kept_files
from tests.support.problems import read_problem
from tests.support.uploads import dataset_inspection, model_inspection, npz_file, safetensors_file, zip_file

MODEL = {"architecture": "snn_1k"}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_model_is_kept_and_inspected(server: ApiServer, client: httpx.Client) -> None:
    content = safetensors_file()
    said = {"arguments": '{"num_classes": 10}', "name": "é", "image_size": "32", "mean": "0.5,0,0.1", "std": "1,2,3"}
    said |= {"resize": "36", "interpolation": "bicubic"}
    response = client.post("/v1/models", params=MODEL | said, content=content)
    assert response.status_code == 201, response.text
    model = resources.Model.model_validate(response.json())
    assert response.headers["location"] == f"/v1/models/{model.id}"
    assert (model.state, model.format, model.size, model.name) == ("inspecting", "safetensors", len(content), "é")
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    assert model.architecture.arguments == {"num_classes": 10}
    assert model.image_size == 32
    assert model.preprocessing is not None
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.5, 0.0, 0.1), (1.0, 2.0, 3.0))
    assert model.preprocessing.resize == CropCentre(shorter_side=36, interpolation="bicubic")
    (path,) = kept_files(server.settings)
    assert path.name == model.sha256
    assert path.read_bytes() == content

    server.inspect(model_inspection())
    ready = resources.Model.model_validate(client.get(f"/v1/models/{model.id}").json())
    assert ready.state == "ready"
    assert ready.inspection == model_inspection()
    assert resources.Page[resources.Model].model_validate(client.get("/v1/models").json()).items == [ready]


def test_a_state_dict_is_kept(client: httpx.Client) -> None:
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2).state_dict(), file)
    response = client.post("/v1/models", params=MODEL, content=file.getvalue())
    assert response.status_code == 201
    assert response.json()["format"] == "pt"


def test_a_data_set_is_kept_and_rejected(server: ApiServer, client: httpx.Client) -> None:
    response = client.post("/v1/datasets", params={"name": "pets"}, content=zip_file())
    assert response.status_code == 201
    dataset = resources.Dataset.model_validate(response.json())
    assert response.headers["location"] == f"/v1/datasets/{dataset.id}"
    failure = Failure(kind=FailureKind.INVALID_DATASET, message="cat/1.png cannot be read as an image; replace it")
    server.inspect(failure)
    rejected = resources.Dataset.model_validate(client.get(f"/v1/datasets/{dataset.id}").json())
    assert (rejected.state, rejected.failure) == ("rejected", failure)


def test_a_body_of_unknown_length(client: httpx.Client) -> None:
    content = npz_file(images=500)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 70_001):
            yield content[start : start + 70_001]

    response = client.post("/v1/datasets", content=pieces())
    assert response.status_code == 201
    assert response.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert response.json()["size"] == len(content)


def test_the_same_bytes_twice_are_kept_once(server: ApiServer, client: httpx.Client) -> None:
    first, second = (client.post("/v1/models", params=MODEL, content=safetensors_file()).json()["id"] for _ in range(2))
    assert first != second
    assert len(kept_files(server.settings)) == 1
    assert client.delete(f"/v1/models/{first}").status_code == 204
    assert len(kept_files(server.settings)) == 1
    assert client.delete(f"/v1/models/{second}").status_code == 204
    assert kept_files(server.settings) == []
    read_problem(client.get(f"/v1/models/{second}"), 404, "not-found")
    read_problem(client.delete(f"/v1/models/{second}"), 404, "not-found")


def test_a_deletion_whose_commit_fails_costs_no_bytes(
    server: ApiServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = client.post("/v1/models", params=MODEL, content=safetensors_file()).json()["id"]

    def break_the_commit(session: Session) -> None:
        raise OperationalError("COMMIT", {}, ConnectionResetError())

    def delete_in_a_session_that_breaks(session: Session, team_id: str, model_id: str) -> str:
        event.listen(session, "before_commit", break_the_commit)
        return delete_model(session, team_id, model_id)

    with monkeypatch.context() as patched:
        patched.setattr(uploads, "delete_model", delete_in_a_session_that_breaks)
        read_problem(client.delete(f"/v1/models/{model}"), 503, "database-unavailable")
    assert len(kept_files(server.settings)) == 1
    assert client.delete(f"/v1/models/{model}").status_code == 204
    assert kept_files(server.settings) == []


class TestDeclaredHash:
    content = npz_file()
    right = hashlib.sha256(content)
    wrong = hashlib.sha256(b"something else")

    @staticmethod
    def declared(digest: bytes) -> str:
        return f"sha-512=:AAAA:, sha-256=:{base64.b64encode(digest).decode()}:"

    def test_the_right_one_is_accepted(self, client: httpx.Client) -> None:
        for more in (
            {"params": {"sha256": self.right.hexdigest()}},
            {"headers": {"X-Content-SHA256": self.right.hexdigest().upper()}},
            {"headers": {"Content-Digest": self.declared(self.right.digest())}},
        ):
            assert client.post("/v1/datasets", content=self.content, **more).status_code == 201

    def test_another_is_refused(self, server: ApiServer, client: httpx.Client) -> None:
        for more in (
            {"params": {"sha256": self.wrong.hexdigest()}},
            {"headers": {"X-Content-SHA256": self.wrong.hexdigest()}},
            {"headers": {"Content-Digest": self.declared(self.wrong.digest())}},
        ):
            found = read_problem(client.post("/v1/datasets", content=self.content, **more), 422, "hash-mismatch")
            assert self.right.hexdigest() in found.detail
            assert self.wrong.hexdigest() in found.detail
        assert_nothing_kept(server)

    def test_one_that_is_none_is_refused(self, server: ApiServer, client: httpx.Client) -> None:
        for where, more in (
            ("sha256", {"params": {"sha256": "abc"}}),
            ("X-Content-SHA256", {"headers": {"X-Content-SHA256": "xyz"}}),
            ("Content-Digest", {"headers": {"Content-Digest": "sha-256=:!!!:"}}),
            ("Content-Digest", {"headers": {"Content-Digest": "sha-256=:AAAA:"}}),
        ):
            found = read_problem(client.post("/v1/datasets", content=self.content, **more), 422, "invalid-request")
            assert [error.where for error in found.errors] == [where]
        assert_nothing_kept(server)

    def test_two_that_differ_are_refused(self, client: httpx.Client) -> None:
        response = client.post(
            "/v1/datasets",
            params={"sha256": self.right.hexdigest()},
            headers={"X-Content-SHA256": self.wrong.hexdigest()},
            content=self.content,
        )
        assert read_problem(response, 422, "invalid-request").errors[0].where == "sha256 and X-Content-SHA256"


class TestLimit:
    def test_a_body_at_the_limit_is_taken(self, client: httpx.Client) -> None:
        content = safetensors_file(floats=(UPLOAD_LIMIT - 200) // 4)
        assert len(content) <= UPLOAD_LIMIT
        assert client.post("/v1/models", params=MODEL, content=content).status_code == 201

    def test_a_declared_length_above_it_is_refused_at_once(self, server: ApiServer, tenant: Tenant) -> None:
        with raw_connection(server) as connection:
            # Not one byte of the body is sent: the answer cannot have waited for it.
            connection.sendall(head(tenant, "/v1/datasets", f"Content-Length: {UPLOAD_LIMIT + 1}"))
            answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert f'"limit_bytes":{UPLOAD_LIMIT}'.encode() in answer
        assert_nothing_kept(server)

    def test_a_longer_body_is_refused_while_it_streams(self, server: ApiServer, tenant: Tenant) -> None:
        with raw_connection(server) as connection:
            connection.sendall(head(tenant, "/v1/datasets", "Transfer-Encoding: chunked"))
            piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            for _ in range(UPLOAD_LIMIT // 0x10000 + 2):
                connection.sendall(piece)
            # The last chunk is never sent.
            answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert_nothing_kept(server)

    def test_a_client_that_sends_everything_reads_the_answer(self, server: ApiServer, client: httpx.Client) -> None:
        found = read_problem(client.post("/v1/datasets", content=bytes(UPLOAD_LIMIT * 5)), 413, "too-large")
        assert f"{UPLOAD_LIMIT:,} bytes" in found.detail
        assert found.extra == {"limit_bytes": UPLOAD_LIMIT}
        assert_nothing_kept(server)

    def test_a_spec_has_a_limit_of_its_own(self, client: httpx.Client) -> None:
        found = read_problem(client.post("/v1/jobs", json={"name": "x" * 2_000_000}), 413, "too-large")
        assert found.extra == {"limit_bytes": 1 << 20}

        def pieces() -> Iterator[bytes]:
            for _ in range(20):
                yield b" " * 100_000

        response = client.post("/v1/jobs", content=pieces(), headers={"Content-Type": "application/json"})
        read_problem(response, 413, "too-large")


def test_a_body_that_breaks_off_leaves_nothing(server: ApiServer, tenant: Tenant) -> None:
    content = npz_file(images=500)
    with raw_connection(server) as connection:
        connection.sendall(head(tenant, "/v1/datasets", f"Content-Length: {len(content)}"))
        connection.sendall(content[: len(content) // 2])
        while not kept_files(server.settings):
            time.sleep(0.01)
    deadline = time.monotonic() + 30
    while kept_files(server.settings) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert_nothing_kept(server)


def test_forms_and_compressed_bodies_are_refused(server: ApiServer, client: httpx.Client) -> None:
    found = read_problem(client.post("/v1/datasets", files={"file": zip_file()}), 415, "unsupported-media-type")
    assert "--upload-file" in found.detail
    response = client.post("/v1/datasets", content=zip_file(), headers={"Content-Encoding": "gzip"})
    assert "gzip" in read_problem(response, 415, "unsupported-media-type").detail
    assert_nothing_kept(server)


def test_what_curl_declares_by_default_is_taken(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/v1/datasets", content=zip_file(), headers=headers).status_code == 201


def test_lists_go_page_by_page(server: ApiServer, client: httpx.Client) -> None:
    ids = [client.post("/v1/datasets", content=npz_file(seed=seed)).json()["id"] for seed in range(5)]
    other = server.new_tenant("other").client
    other.post("/v1/datasets", content=npz_file())
    seen: list[str] = []
    after: dict[str, str] = {}
    sizes = []
    while True:
        page = client.get("/v1/datasets", params={"limit": 2} | after).json()
        seen += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == ids[::-1]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_a_page_is_as_long_as_its_inspections_let_it(
    server: ApiServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """All are shown with all that was found, to a client that follows `next`, as ours does."""
    found: ModelInspection | DatasetInspection
    if kind == "models":
        layer = model_inspection().layers[0]
        found = model_inspection().model_copy(update={"layers": (layer,) * 15})
    else:
        found = dataset_inspection().model_copy(update={"classes": tuple(str(label) for label in range(500))})
    length = len(found.model_dump_json())
    monkeypatch.setattr(uploads, "PAGE_BYTES", 3 * length)  # spaces between take the room of the third
    made = []
    for seed in range(5):
        content = safetensors_file(seed) if kind == "models" else npz_file(seed)
        made.append(client.post(f"/v1/{kind}", params=MODEL if kind == "models" else {}, content=content).json()["id"])
        server.inspect(found)
    seen, sizes, after = [], [], {}
    while True:
        answer = client.get(f"/v1/{kind}", params={"limit": 5} | after)
        assert len(answer.content) < 3 * length
        page = answer.json()
        seen += page["items"]
        sizes.append(len(page["items"]))
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [item["id"] for item in seen] == made[::-1]
    assert seen == [client.get(f"/v1/{kind}/{item['id']}").json() for item in seen]
    assert sizes == [2, 2, 1]


def test_what_a_job_uses_is_not_deleted(server: ApiServer, client: httpx.Client) -> None:
    model = client.post("/v1/models", params=MODEL, content=safetensors_file()).json()["id"]
    server.inspect(model_inspection())
    dataset = client.post("/v1/datasets", content=npz_file()).json()["id"]
    server.inspect(dataset_inspection())
    spec = {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    job = client.post("/v1/jobs", json=spec).json()["id"]
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        assert job in read_problem(client.delete(path), 409, "in-use").detail
    client.post(f"/v1/jobs/{job}/cancel")
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        assert client.delete(path).status_code == 204
    assert kept_files(server.settings) == []


def raw_connection(server: ApiServer) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def head(tenant: Tenant, path: str, *lines: str) -> bytes:
    all_lines = [f"POST {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {tenant.key}", *lines, "", ""]
    return "\r\n".join(all_lines).encode()


def read_answer(connection: socket.socket) -> bytes:
    """Everything up to the closing brace of the problem document."""
    answer = b""
    while not answer.rstrip().endswith(b"}"):
        received = connection.recv(65_536)
        if not received:
            break
        answer += received
    return answer
