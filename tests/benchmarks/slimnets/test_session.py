"""Jobs handed in over HTTP: what an earlier run left at the service is found again, and what failed is tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.slimnets.finished import Finished, dumped
from benchmarks.slimnets.session import Session, uploaded
from modelpress.client import Client, JobFailed
from modelpress.client.progress import JobBars
from modelpress.spec.event import Progress
from modelpress.spec.job import ArtifactKind
from modelpress.spec.resources import Job, Model, Page
from modelpress.spec.state import JobState, UploadState
from tests.benchmarks.slimnets.finished_jobs import a_job, report
from tests.client.resources import make_job, make_model
from tests.support.scripted_server import Received, Reply, ScriptedServer, scripted_server

FILES = (ArtifactKind.COMPACT,)
TRAINING = Progress(stage="step", step=0, steps=1, fraction=0.5, metrics={"step": 5, "loss": 1.5, "sparsity": 0.4})


def perform(folder: Path, answer: Callable[[Received], Reply]) -> tuple[Finished, ScriptedServer]:
    """One job through a server that answers so."""
    with scripted_server(answer) as server, Client(server.url, "key") as client:
        session = Session(client, "mdl_1", {"final": "dts_1", "tuning": "dts_2"}, folder, JobBars(Console(quiet=True)))
        return session.perform(a_job(seed=3), FILES), server


def answers(
    first: JobState, last: JobState = JobState.SUCCEEDED, left: tuple[str, ...] = ()
) -> Callable[[Received], Reply]:
    """A job that is in the state `first` when it is handed in, and comes to `last`; others are `left` in the queue."""
    job = make_job(last).model_copy(update={"progress": TRAINING})
    waiting = [make_job(JobState.QUEUED).model_copy(update={"id": name}) for name in ("job_1", *left)]

    def answer(received: Received) -> Reply:
        if received.path.startswith("/v1/jobs?"):
            items = waiting if "state=queued" in received.path else []
            return Reply(body=Page[Job](items=tuple(items)).model_dump_json().encode())
        if received.path == "/v1/jobs":
            return Reply(202, make_job(first).model_dump_json().encode())
        if received.path.endswith("/report"):
            return Reply(body=report(0.81, 100).model_dump_json().encode())
        asked = job.model_copy(update={"id": received.path.split("/")[3]})
        return Reply(body=asked.model_dump_json().encode())

    return answer


def test_a_job_has_the_same_key_each_time_and_keeps_its_curve(tmp_path: Path) -> None:
    (first, one), (second, other) = (perform(tmp_path, answers(JobState.QUEUED)) for _ in range(2))
    body = json.loads(one.requests[0].body)
    assert (body["model"], body["dataset"], body["seed"], body["artifacts"]) == ("mdl_1", "dts_1", 3, ["compact"])
    assert body["steps"] == dumped(a_job()) == first.steps
    keys = {server.requests[0].headers["Idempotency-Key"] for server in (one, other)}
    assert len(keys) == 1
    assert [request.method for request in one.requests] == ["POST", "GET", "GET", "GET", "GET"]
    assert (first.id, first.seed, first.top1, first.stored_bytes) == ("job_1", 3, 0.81, 100)
    # What a run saw before it was stopped and what the next one saw are one curve.
    assert [(sample.step, sample.loss, sample.sparsity) for sample in second.curve] == [(5, 1.5, 0.4)]


def test_what_failed_in_an_earlier_run_is_tried_again_and_fails_for_good_in_this_one(tmp_path: Path) -> None:
    _, server = perform(tmp_path, answers(JobState.FAILED))
    assert [request.path for request in server.requests if request.method == "POST"] == [
        "/v1/jobs",
        "/v1/jobs/job_1/retry",
    ]
    with pytest.raises(JobFailed):
        perform(tmp_path, answers(JobState.QUEUED, JobState.FAILED))


def test_what_else_a_stopped_run_left_does_not_go_first(tmp_path: Path) -> None:
    _, server = perform(tmp_path, answers(JobState.QUEUED, left=("job_2", "job_3")))
    posts = [request.path for request in server.requests if request.method == "POST"]
    assert posts == ["/v1/jobs", "/v1/jobs/job_2/cancel", "/v1/jobs/job_3/cancel"]


def test_uploads_are_found_by_their_name_when_they_can_be_used() -> None:
    ready, rejected = make_model(), make_model(UploadState.REJECTED)
    sent = ready.model_copy(update={"id": "mdl_2"})

    def send() -> Model:
        return sent

    assert uploaded([rejected, ready], "m", send) is ready
    assert uploaded([rejected], "m", send) is sent
    assert uploaded([ready], "another", send) is sent
