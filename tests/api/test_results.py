"""What a job says and makes: the stream of events, the log, the report, the files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api import events as events_module
from modelpress.spec.event import Progress, Warned
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.report import Report
from modelpress.spec.resources import Artifact, JobEvent
from service.settings import Settings
from tests.conftest import DIALECTS
from tests.support.api_server import ApiServer, Tenant, run_api
from tests.support.patience import until
from tests.support.problems import read_problem
from tests.support.reports import a_report
from tests.support.s3_server import run_s3_server

CONTENT = hashlib.shake_256(b"an artifact").digest(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TAG = f'"{SHA256}"'


@pytest.fixture
def job(server: ApiServer, client: httpx.Client) -> str:
    model, dataset = server.upload_ready(client)
    spec = {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    return str(client.post("/v1/jobs", json=spec).json()["id"])


def progress(epoch: int) -> Progress:
    return Progress(
        stage="step", step=0, steps=1, step_kind="prune", fraction=0.5, epoch=epoch, epochs=3, metrics={"loss": 0.25}
    )


def stream(client: httpx.Client, job: str, **options: Any) -> Iterator[tuple[str, str, JobEvent]]:
    """Events as they come: the stream's own id and name, and the data."""
    with client.stream("GET", f"/v1/jobs/{job}/events", **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields["id"], fields["event"], JobEvent.model_validate(json.loads(fields["data"]))
                fields = {}


class TestEvents:
    @pytest.fixture(params=DIALECTS)
    def dialect(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_the_stream_follows_the_job_to_its_end(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        seen = stream(client, job)
        id_, kind, event = next(seen)
        assert (id_, kind, event.id, event.event.kind) == ("1", "state", 1, "state")
        claimed = server.claim()
        assert next(seen)[2].event.model_dump()["state"] == "running"
        server.tell(claimed, progress(1), Warned(message="small images\nand two lines"))
        assert next(seen)[2].event == progress(1)
        assert next(seen)[2].event == Warned(message="small images\nand two lines")
        server.succeed(claimed)
        ids = [(id_, event.event) for id_, _, event in seen]
        assert ids[-1][1].model_dump()["state"] == "succeeded"

    def test_a_stream_goes_on_where_it_broke_off(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        claimed = server.claim()
        server.tell(claimed, *(progress(epoch) for epoch in (1, 2, 3)))
        server.succeed(claimed)
        whole = list(stream(client, job))
        assert [int(id_) for id_, _, _ in whole] == list(range(1, len(whole) + 1))
        for options in ({"headers": {"Last-Event-ID": "3"}}, {"params": {"last_event_id": 3}}):
            assert list(stream(client, job, **options)) == whole[3:]
        both = {"headers": {"Last-Event-ID": "4"}, "params": {"last_event_id": 1}}
        assert list(stream(client, job, **both)) == whole[4:]
        assert list(stream(client, job, headers={"Last-Event-ID": str(len(whole))})) == []

    def test_many_events_come_all_and_in_order(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        claimed = server.claim()
        server.tell(claimed, *(Warned(message=str(number)) for number in range(450)))
        server.succeed(claimed)
        found = [event.event.message for _, _, event in stream(client, job) if isinstance(event.event, Warned)]
        assert found == [str(number) for number in range(450)]

    def test_a_job_that_is_tried_again_streams_on(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        client.post(f"/v1/jobs/{job}/cancel")
        first = list(stream(client, job))
        client.post(f"/v1/jobs/{job}/retry")
        seen = stream(client, job, headers={"Last-Event-ID": first[-1][0]})
        assert next(seen)[2].event.model_dump()["state"] == "queued"
        client.post(f"/v1/jobs/{job}/cancel")
        assert [event.event.model_dump()["state"] for _, _, event in seen] == ["cancelled"]

    def test_the_story_of_a_job_that_was_tried_again_does_not_end_with_its_first_end(
        self, monkeypatch: pytest.MonkeyPatch, server: ApiServer, client: httpx.Client, job: str
    ) -> None:
        monkeypatch.setattr(events_module, "_BATCH", 2)  # the first end is the last that one look finds
        for action in ("cancel", "retry", "cancel"):
            client.post(f"/v1/jobs/{job}/{action}")
        states = [event.event.model_dump()["state"] for _, _, event in stream(client, job)]
        assert states == ["queued", "cancelled", "queued", "cancelled"]

    @pytest.mark.parametrize("last", ["-1", "x", "99999999999"])
    def test_a_place_that_is_none(self, client: httpx.Client, job: str, last: str) -> None:
        response = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": last})
        assert read_problem(response, 422, "invalid-request").errors[0].where == "Last-Event-ID"


def test_a_quiet_stream_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer, client: httpx.Client, job: str
) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_SECONDS", 0.1)
    with client.stream("GET", f"/v1/jobs/{job}/events") as response:
        comments = (line for line in response.iter_lines() if line.startswith(":"))
        assert next(comments)
        assert next(comments)


def test_streams_that_are_left_keep_no_connection_to_the_database(server: ApiServer, tenant: Tenant, job: str) -> None:
    # More than the pool holds, one after another and all at once.
    def look() -> None:
        client = server.client(tenant.key)
        for _ in range(3):
            with client.stream("GET", f"/v1/jobs/{job}/events") as response:
                assert next(response.iter_lines())

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tenant.client.get(f"/v1/jobs/{job}").status_code == 200
    pool = server.app.state.services.database._engine.pool  # nothing public says it
    until(lambda: pool.checkedout() == 0)  # the service hears of the last ones' end a moment later


class TestLogAndReport:
    def test_a_running_job_shows_its_events(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        server.tell(server.claim(), progress(2), Warned(message="mind the gap"))
        response = client.get(f"/v1/jobs/{job}/log")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        lines = response.text.splitlines()
        assert [line.partition(": ")[2] for line in lines] == [
            "queued",
            "running",
            "50% step, step 1 of 1 (prune), epoch 2 of 3, loss 0.25",
            "warning: mind the gap",
        ]

    def test_a_finished_job_shows_what_it_printed(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        claimed = server.claim()
        server.keep(claimed, "log", "log.txt", "Grüße\n".encode() * 300_000, "text/plain")
        server.succeed(claimed)
        response = client.get(f"/v1/jobs/{job}/log")
        assert response.text == "Grüße\n" * 300_000
        assert client.get(f"/v1/jobs/{job}/artifacts").json() == []

    def test_the_report_comes_as_it_was_written(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        found = read_problem(client.get(f"/v1/jobs/{job}/report"), 409, "no-report")
        assert "wait for it" in found.detail
        server.succeed(server.claim())
        response = client.get(f"/v1/jobs/{job}/report")
        assert Report.model_validate(response.json()) == a_report()

    def test_a_failed_job_has_no_report(self, server: ApiServer, client: httpx.Client, job: str) -> None:
        server.fail(server.claim(), Failure(kind=FailureKind.INTERNAL, message="x"))
        found = read_problem(client.get(f"/v1/jobs/{job}/report"), 409, "no-report")
        assert "will not have one" in found.detail


class TestDownload:
    """Held against a folder and against S3: the same answers from both."""

    @pytest.fixture(params=["folder", "s3"])
    def settings(self, request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
        if request.param == "folder":
            yield settings
            return
        with run_s3_server() as s3:
            s3.make_bucket("models")
            yield settings.model_copy(
                update={
                    "store_url": f"s3://models/here?endpoint={s3.endpoint}",
                    "s3_access_key_id": type(settings.s3_access_key_id)(s3.credentials.access_key_id),
                    "s3_secret_access_key": type(settings.s3_secret_access_key)(s3.credentials.secret_access_key),
                }
            )

    @pytest.fixture
    def path(self, server: ApiServer, client: httpx.Client, job: str) -> str:
        claimed = server.claim()
        assert server.keep(claimed, "compact", "model.mpz", CONTENT, "application/octet-stream") == SHA256
        server.succeed(claimed)
        (entry,) = client.get(f"/v1/jobs/{job}/artifacts").json()
        artifact = Artifact.model_validate(entry)
        assert (artifact.job, artifact.kind, artifact.size, artifact.sha256) == (job, "compact", len(CONTENT), SHA256)
        return f"/v1/artifacts/{artifact.id}/content"

    def test_the_headers_that_the_document_names_are_sent(
        self, server: ApiServer, client: httpx.Client, path: str, job: str
    ) -> None:
        described = server.app.openapi()["paths"]
        content = described["/v1/artifacts/{artifact_id}/content"]["get"]["responses"]
        for status, asked in ((200, {}), (206, {"Range": "bytes=0-0"}), (304, {"If-None-Match": TAG})):
            response = client.get(path, headers=asked)
            assert response.status_code == status
            assert content[str(status)]["headers"]
            assert {name.lower() for name in content[str(status)]["headers"]} <= response.headers.keys()
        parameters = described["/v1/artifacts/{artifact_id}/content"]["get"]["parameters"]
        assert {"Range", "If-Range", "If-None-Match"} <= {each["name"] for each in parameters}
        look = described["/v1/jobs/{job_id}"]["get"]["responses"]
        first = client.get(f"/v1/jobs/{job}")
        again = client.get(f"/v1/jobs/{job}", headers={"If-None-Match": first.headers["etag"]})
        for response in (first, again):
            assert list(look[str(response.status_code)]["headers"]) == ["ETag"]
            assert "etag" in response.headers

    def test_everything_about_a_file(self, server: ApiServer, client: httpx.Client, path: str) -> None:
        response = client.get(path)
        assert (response.status_code, response.content) == (200, CONTENT)
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}:"
        expected = {
            "content-length": str(len(CONTENT)),
            "content-type": "application/octet-stream",
            "content-disposition": 'attachment; filename="model.mpz"',
            "etag": TAG,
            "content-digest": digest,
            "repr-digest": digest,
            "accept-ranges": "bytes",
        }
        assert {name: response.headers[name] for name in expected} == expected

        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {name: head.headers[name] for name in expected} == expected

        for range_, start, end in [
            ("bytes=0-0", 0, 1),
            ("bytes=1000000-2000000", 1_000_000, 2_000_001),
            ("bytes=2499999-", 2_499_999, 2_500_000),
            ("bytes=5-99999999", 5, 2_500_000),
            ("bytes=-7", 2_499_993, 2_500_000),
            ("bytes=-9999999", 0, 2_500_000),
            ("BYTES=3-4", 3, 5),
        ]:
            part = client.get(path, headers={"Range": range_})
            assert part.status_code == 206, range_
            assert part.content == CONTENT[start:end], range_
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
            assert part.headers["content-length"] == str(end - start)
            assert part.headers["repr-digest"] == digest
            # A digest of the content would be one of the part (RFC 9530, section 2).
            assert "content-digest" not in part.headers
            assert (
                client.head(path, headers={"Range": range_}).headers["content-range"] == part.headers["content-range"]
            )

        for range_ in ("bytes=2500000-", "bytes=2500000-2500001", "bytes=-0"):
            outside = client.get(path, headers={"Range": range_})
            read_problem(outside, 416, "range-not-satisfiable")
            assert outside.headers["content-range"] == f"bytes */{len(CONTENT)}"

        for range_ in ("bytes=5-1", "bytes=0-1,3-4", "bytes=a-b", "bytes=-", "lines=0-1", "bytes"):
            assert client.get(path, headers={"Range": range_}).content == CONTENT, range_

        some = {"Range": "bytes=1-2"}
        assert client.get(path, headers=some | {"If-Range": TAG}).content == CONTENT[1:3]
        for other in ('"other"', f"W/{TAG}", "Wed, 21 Oct 2015 07:28:00 GMT"):
            assert client.get(path, headers=some | {"If-Range": other}).status_code == 200

        for known in (TAG, f"W/{TAG}", f'"a", {TAG}', "*"):
            unchanged = client.get(path, headers=some | {"If-None-Match": known})
            assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", TAG)
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200

        other = server.new_tenant("other").client
        read_problem(other.get(path), 404, "not-found")
        read_problem(client.get("/v1/artifacts/art_x/content"), 404, "not-found")

        server.app.state.services.store.delete(SHA256)
        read_problem(client.get(path), 500, "content-lost")


def test_a_store_that_went_away(server: ApiServer, client: httpx.Client, job: str, settings: Settings) -> None:
    claimed = server.claim()
    server.keep(claimed, "compact", "model.mpz", CONTENT, "application/octet-stream")
    server.succeed(claimed)
    artifact = client.get(f"/v1/jobs/{job}/artifacts").json()[0]["id"]
    (settings.home / "store").rename(settings.home / "gone")
    response = client.get(f"/v1/artifacts/{artifact}/content")
    found = read_problem(response, 503, "store-unavailable")
    assert response.headers["retry-after"] == "5"
    assert str(settings.home) not in found.detail
    response = client.post("/v1/datasets", content=b"PK")
    read_problem(response, 503, "store-unavailable")


def test_an_artifact_survives_a_restart(settings: Settings) -> None:
    with run_api(settings) as server:
        tenant = server.new_tenant()
        model, dataset = server.upload_ready(tenant.client)
        spec = {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}
        job = tenant.client.post("/v1/jobs", json=spec).json()["id"]
        claimed = server.claim()
        server.keep(claimed, "compact", "model.mpz", CONTENT, "application/octet-stream")
        server.succeed(claimed)
    with run_api(settings) as server:
        client = server.client(tenant.key)
        artifact = client.get(f"/v1/jobs/{job}/artifacts").json()[0]["id"]
        assert client.get(f"/v1/artifacts/{artifact}/content").content == CONTENT
