"""What the client does when a service does not behave: retries where they are harmless, clear errors elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelpress.client import ApiError, Client, ConnectionFailed, connection, event_stream
from modelpress.spec.resources import Job, JobEvent
from modelpress.spec.state import JobState
from tests.client.resources import make_job, make_model
from tests.support.free_port import free_port
from tests.support.scripted_server import Received, Reply, scripted_server

NO_DELAYS = (0.0,) * len(connection.RETRY_DELAYS)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_DELAYS", NO_DELAYS)
    monkeypatch.setattr(event_stream, "RETRY_DELAYS", NO_DELAYS)


def _in_turn(*replies: Reply) -> Callable[[Received], Reply]:
    rest: Iterator[Reply] = iter(replies)
    return lambda request: next(rest)


def test_a_question_is_asked_again_while_the_service_is_away() -> None:
    replies = [Reply(cut_after=0), Reply(503), Reply(429), Reply(200, b"[]")]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        assert client.methods() == []
        assert len(server.requests) == 4
        assert {request.headers["Authorization"] for request in server.requests} == {"Bearer mp_x"}


def test_a_service_that_stays_away_is_reported_after_a_bounded_number_of_tries() -> None:
    with (
        scripted_server(lambda request: Reply(503)) as server,
        Client(server.url, "mp_x") as client,
        pytest.raises(ApiError, match="/v1/methods answered 503 Service Unavailable"),
    ):
        client.methods()
    assert len(server.requests) == 1 + len(NO_DELAYS)


def test_nobody_at_the_address_is_one_clear_sentence() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        Client(url, "mp_x") as client,
        pytest.raises(ConnectionFailed, match=rf"no service answers at {url} .*running\?"),
    ):
        client.methods()


def test_a_job_handed_in_again_after_a_lost_answer_carries_the_same_key() -> None:
    job = make_job(JobState.QUEUED)
    replies = [Reply(cut_after=0), Reply(202, job.model_dump_json().encode())]
    with scripted_server(_in_turn(*replies, replies[1])) as server, Client(server.url, "mp_x") as client:
        assert client.submit({"model": "mdl_1", "steps": []}).id == job.id
        client.submit({"model": "mdl_1", "steps": []})
        keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert keys[0] == keys[1] != keys[2]
    assert json.loads(server.requests[0].body) == {"model": "mdl_1", "steps": []}


def test_an_answer_that_breaks_off_in_its_body_is_asked_for_again() -> None:
    job = make_job(JobState.QUEUED)
    body = job.model_dump_json().encode()
    replies = [Reply(202, body, cut_after=20), Reply(202, body), Reply(200, body, cut_after=20), Reply(200, body)]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        assert client.submit({"model": "mdl_1", "steps": []}).id == job.id
        assert client.job(job.id).id == job.id
        first, second, *_ = [request.headers.get("Idempotency-Key") for request in server.requests]
    assert first == second is not None


def test_a_deletion_is_repeated_and_was_done_where_its_answer_was_lost() -> None:
    missing = Reply(404, b"{}")
    replies = [Reply(503), Reply(cut_after=0), missing, missing]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        client.delete_job("job_1")
        assert [request.path for request in server.requests] == ["/v1/jobs/job_1"] * 3
        # Nothing was lost this time: it was not there.
        with pytest.raises(ApiError, match="answered 404"):
            client.delete_model("mdl_1")


def test_an_upload_is_not_sent_twice_after_a_lost_answer(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    with (
        scripted_server(lambda request: Reply(cut_after=0)) as server,
        Client(server.url, "mp_x") as client,
        pytest.raises(ConnectionFailed, match="broke"),
    ):
        client.upload_model(path, architecture="nin_cifar")
    assert len(server.requests) == 1


def test_an_upload_declares_its_hash_and_length_and_tells_its_progress(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    path = tmp_path / "my model.pt"
    path.write_bytes(content)
    told: list[tuple[int, int]] = []
    answer = Reply(201, make_model().model_dump_json().encode())
    with scripted_server(_in_turn(answer)) as server, Client(server.url, "mp_x") as client:
        client.upload_model(
            path,
            architecture="vgg11_cifar",
            arguments={"num_classes": 7},
            image_size=64,
            mean=(0.5, 0.25, 0.125),
            std=(1, 2, 3),
            resize="stretch",
            on_progress=lambda sent, size: told.append((sent, size)),
        )
    (request,) = server.requests
    assert request.body == content
    assert request.headers["Content-Length"] == str(len(content))
    assert f"sha256={hashlib.sha256(content).hexdigest()}" in request.path
    said = (
        "name=my+model.pt",
        "architecture=vgg11_cifar",
        "arguments=%7B%22num_classes%22%3A+7%7D",
        "image_size=64",
        "mean=0.5%2C0.25%2C0.125",
        "std=1%2C2%2C3",
        "resize=stretch",
    )
    for expected in said:
        assert expected in request.path
    assert [sent for sent, _ in told] == sorted({sent for sent, _ in told})
    assert told[-1] == (len(content), len(content))


def test_another_address_is_named_and_not_followed() -> None:
    moved = Reply(308, headers={"Location": "https://models.example/v1/jobs/job_1"})
    with (
        scripted_server(_in_turn(moved)) as server,
        Client(server.url, "mp_x") as client,
        pytest.raises(ApiError, match=r"308 .*the service is at https://models\.example/v1/jobs/job_1, give that"),
    ):
        client.job("job_1")


def test_a_problem_is_told_in_the_services_own_words() -> None:
    problem = {
        "type": "/problems/invalid-spec",
        "title": "Invalid spec",
        "status": 422,
        "detail": "the job cannot be accepted",
        "errors": [{"where": "steps.0.sparsity", "message": "must be below 1"}],
        "request_id": "r1",
    }
    reply = Reply(422, json.dumps(problem).encode(), {"Content-Type": "application/problem+json"})
    with (
        scripted_server(_in_turn(reply)) as server,
        Client(server.url, "mp_x") as client,
        pytest.raises(ApiError) as caught,
    ):
        client.submit({"model": "mdl_1", "steps": []})
    assert str(caught.value) == "the job cannot be accepted; steps.0.sparsity: must be below 1"
    assert (caught.value.status, caught.value.problem.request_id) == (422, "r1")


def test_waiting_asks_for_changes_only_and_tells_each_progress_once() -> None:
    running, further = make_job(JobState.RUNNING, 0.25), make_job(JobState.RUNNING, 0.5)
    replies = [
        Reply(200, running.model_dump_json().encode(), {"ETag": '"1"'}),
        Reply(304, headers={"ETag": '"1"'}),
        Reply(200, further.model_dump_json().encode(), {"ETag": '"2"'}),
        Reply(200, make_job(JobState.SUCCEEDED, 0.5).model_dump_json().encode(), {"ETag": '"3"'}),
    ]
    told: list[float] = []
    submitted = Reply(202, make_job(JobState.QUEUED).model_dump_json().encode())
    with scripted_server(_in_turn(submitted, *replies)) as server, Client(server.url, "mp_x") as client:
        job = client.submit({"model": "mdl_1", "steps": []})
        done = job.wait(on_progress=lambda progress: told.append(progress.fraction))
    assert done.state is job.state is JobState.SUCCEEDED
    assert told == [0.25, 0.5]
    assert [request.headers.get("If-None-Match") for request in server.requests[1:]] == [None, '"1"', '"1"', '"2"']
    assert [("wait=" in request.path) for request in server.requests[1:]] == [False, True, True, True]


def _event(number: int, state: str) -> bytes:
    event = JobEvent.model_validate(
        {
            "id": number,
            "attempt": 1,
            "created_at": "2026-01-01T00:00:00Z",
            # U+2028 ends a line for str.splitlines, and must not here.
            "event": {"kind": "state", "state": state, "attempt": 1, "reason": "so\u2028so"},
        }
    )
    return f"id: {number}\r\nevent: state\r\ndata: {event.model_dump_json()}\r\n\r\n".encode()


def test_an_event_stream_that_breaks_goes_on_after_the_last_event() -> None:
    first = b": hello\r\n\r\n" + _event(3, "running") + _event(4, "running")
    replies = [
        Reply(200, make_job(JobState.RUNNING).model_dump_json().encode()),
        Reply(200, first, cut_after=len(first) - 10),
        Reply(200, _event(4, "running") + _event(5, "succeeded") + _event(6, "unseen")),
    ]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        events = list(client.job("job_1").events())
    assert [event.id for event in events] == [3, 4, 5]
    assert [request.headers.get("Last-Event-ID") for request in server.requests[1:]] == [None, "3"]


def test_the_events_of_a_job_that_was_tried_again_are_all_told() -> None:
    """The stream of one that fails in the end is the service's to close."""
    states = ("running", "failed", "queued", "running", "failed")
    replies = [
        Reply(200, make_job(JobState.RUNNING).model_dump_json().encode()),
        Reply(200, b"".join(_event(number, state) for number, state in enumerate(states, 1))),
    ]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        assert [event.id for event in client.job("job_1").events()] == [1, 2, 3, 4, 5]
    assert len(server.requests) == 2


def test_an_event_stream_that_is_gone_on_with_at_the_very_end_has_nothing_more() -> None:
    failed = make_job(JobState.FAILED).model_dump_json().encode()
    with (
        scripted_server(_in_turn(Reply(200, failed), Reply(200), Reply(200, failed), Reply(200))) as server,
        Client(server.url, "mp_x") as client,
    ):
        assert list(client.job("job_1").events(after=5)) == []
    events = "/v1/jobs/job_1/events"
    assert [request.path for request in server.requests[1:]] == [events, "/v1/jobs/job_1", events]


def test_what_a_job_said_while_its_stream_was_away_is_told() -> None:
    succeeded = make_job(JobState.SUCCEEDED).model_dump_json().encode()
    replies = [Reply(200, succeeded), Reply(200), Reply(200, succeeded), Reply(200, _event(6, "succeeded"))]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        assert [event.id for event in client.job("job_1").events(after=5)] == [6]


def test_a_job_that_is_tried_again_while_its_events_are_waited_for_goes_on() -> None:
    failed, running = (make_job(state).model_dump_json().encode() for state in (JobState.FAILED, JobState.RUNNING))
    replies = [
        Reply(200, failed),  # the job
        Reply(200),  # the stream: at its end already
        Reply(200, failed),  # is it?
        Reply(200, _event(6, "queued") + _event(7, "running")),  # it was tried again; the service stops
        Reply(200),  # and stops once more
        Reply(200, running),  # it is not over
        Reply(200, _event(8, "succeeded")),
    ]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        assert [event.id for event in client.job("job_1").events(after=5)] == [6, 7, 8]


def test_lists_are_followed_from_page_to_page() -> None:
    jobs = [make_job(JobState.QUEUED).model_copy(update={"id": f"job_{number}"}) for number in range(3)]

    def page(items: list[Job], after: str | None) -> Reply:
        body = {"items": [item.model_dump(mode="json") for item in items], "next": after}
        return Reply(200, json.dumps(body).encode())

    replies = [page(jobs[:2], "job_1"), page(jobs[2:], None)]
    with scripted_server(_in_turn(*replies)) as server, Client(server.url, "mp_x") as client:
        assert [job.id for job in client.jobs(state=JobState.QUEUED)] == ["job_0", "job_1", "job_2"]
    assert "state=queued" in server.requests[0].path
    assert "after=job_1" in server.requests[1].path
