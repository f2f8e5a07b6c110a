"""Jobs over HTTP: submitted, checked, watched, cancelled, tried again; the worker is played through the database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api import submission
from db.queries import jobs
from db.queries.claims import keep_checkpoint, release
from modelpress.spec.check import check
from modelpress.spec.event import Progress
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.inspection import ModelInspection
from modelpress.spec.job import JobSpec
from modelpress.spec.needs import Capacity
from modelpress.spec.resources import Job, JobCheck, Page
from tests.conftest import DIALECTS
from tests.support.api_server import ApiServer, Tenant
from tests.support.patience import until
from tests.support.problems import read_problem
from tests.support.uploads import dataset_inspection, model_inspection, npz_file, safetensors_file

PRUNE = {"kind": "prune", "sparsity": 0.5}
TRAIN = {"kind": "finetune", "training": {"epochs": 1}}
LONG = {"wait": 30}
CPU = Capacity(device="cpu", cores=4, memory_bytes=8 << 30)
GPU = Capacity(device="cuda", cores=16, memory_bytes=64 << 30, gpu_memory_bytes=24 << 30)


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spec(server: ApiServer, client: httpx.Client) -> dict[str, Any]:
    model, dataset = server.upload_ready(client)
    return {"model": model, "dataset": dataset, "steps": [PRUNE]}


@pytest.fixture
def submit(client: httpx.Client, spec: dict[str, Any]) -> Callable[..., Job]:
    def submit(**changes: Any) -> Job:
        response = client.post("/v1/jobs", json=spec | changes)
        assert response.status_code == 202, response.text
        return Job.model_validate(response.json())

    return submit


def distilled(model: str) -> dict[str, Any]:
    return {"kind": "distill", "student": {"kind": "uploaded", "model": model}, "training": {"epochs": 1}}


def progress(fraction: float) -> Progress:
    return Progress(stage="step", step=0, steps=1, step_kind="prune", fraction=fraction, eta_seconds=12.0)


class TestSubmit:
    def test_a_job_waits_for_a_worker(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        response = client.post("/v1/jobs", json=spec | {"name": "mine"})
        assert response.status_code == 202
        job = Job.model_validate(response.json())
        assert response.headers["location"] == f"/v1/jobs/{job.id}"
        assert (job.state, job.queue_position, job.attempt, job.name) == ("queued", 1, 0, "mine")
        assert job.spec.steps[0].kind == "prune"
        assert Job.model_validate(client.get(f"/v1/jobs/{job.id}").json()) == job

    def test_a_dry_run_makes_no_job(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        response = client.post("/v1/jobs", params={"dry_run": "true"}, json=spec)
        assert response.status_code == 200
        check = JobCheck.model_validate(response.json())
        assert check.spec.seed == 0
        assert client.get("/v1/jobs").json()["items"] == []
        bad = spec | {"steps": [PRUNE | {"layers": {"include": ["nothing*"]}}]}
        read_problem(client.post("/v1/jobs", params={"dry_run": "true"}, json=bad), 422, "incompatible-spec")

    @pytest.mark.parametrize(
        ("steps", "more", "where", "says"),
        [
            ([PRUNE | {"layers": {"include": ["clasifier.*"]}}], {}, "steps.0.layers", "features.0, classifier.0"),
            (
                [{"kind": "factorize", "rank": {"kind": "per_layer", "values": {"features.0": 16}}}],
                {},
                "steps.0.rank",
                "rank 16 is above the full rank 15",
            ),
            (
                [{"kind": "factorize", "rank": {"kind": "per_layer", "values": {"conv": 1}}}],
                {},
                "steps.0.layers",
                "no layer conv",
            ),
            ([PRUNE, TRAIN], {"dataset": None}, "steps.1", "needs a data set"),
            (
                [{"kind": "distill", "student": {"architecture": "nin"}, "training": {}}],
                {},
                "steps.0.student.architecture",
                "no architecture 'nin'",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, client: httpx.Client, spec: dict[str, Any], steps: list[Any], more: dict[str, Any], where: str, says: str
    ) -> None:
        found = read_problem(client.post("/v1/jobs", json=spec | {"steps": steps} | more), 422, "incompatible-spec")
        (error,) = found.errors
        assert error.where == where
        assert says in error.message
        assert client.get("/v1/jobs").json()["items"] == []

    def test_a_character_that_no_database_stores(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        (error,) = read_problem(client.post("/v1/jobs", json=spec | {"name": "a\0b"}), 422, "invalid-request").errors
        assert error.where == "name"
        assert "U+0000" in error.message

    @pytest.mark.parametrize("params", [{}, {"dry_run": "true"}])
    def test_the_check_holds_up_no_one_who_writes(
        self,
        server: ApiServer,
        client: httpx.Client,
        spec: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        params: dict[str, str],
    ) -> None:
        def check_while_another_writes(*given: Any) -> Any:
            server.be_there("another", CPU)
            return check(*given)

        monkeypatch.setattr(submission, "check", check_while_another_writes)
        assert client.post("/v1/jobs", params=params, json=spec).status_code in (200, 202)

    def test_what_was_accepted_before_there_were_bounds_is_shown(
        self, server: ApiServer, tenant: Tenant, client: httpx.Client, spec: dict[str, Any]
    ) -> None:
        arguments = {"a": "x" * 200_000, "b": json.loads("[" * 50 + "]" * 50)}
        student = {"architecture": "snn_1k", "arguments": arguments}
        patterns = [f"re:{index}" + "a?" * 100 for index in range(300)]
        steps = [
            {"kind": "distill", "student": student, "training": {}},
            PRUNE | {"layers": {"exclude": patterns}},
        ]
        with server.database.session() as session:
            job, _ = jobs.create_job(session, tenant.team_id, JobSpec.model_validate(spec | {"steps": steps}))
        (shown,) = client.get("/v1/jobs").json()["items"]
        assert shown["spec"]["steps"][0]["student"]["arguments"] == arguments
        assert client.get(f"/v1/jobs/{job.id}").json()["spec"] == shown["spec"]
        assert server.claim().id == job.id

    def test_the_workers_are_woken(
        self, server: ApiServer, client: httpx.Client, spec: dict[str, Any], submit: Callable[..., Job]
    ) -> None:
        def messages() -> str:
            folder = server.settings.broker_folder / "messages"
            return " ".join(path.read_text() for path in folder.iterdir())

        # The two uploads that the fixture made.
        until(lambda: "modelpress.work_on_inspections" in messages())
        assert "modelpress.work_on_jobs" not in messages()
        job = submit()
        until(lambda: "modelpress.work_on_jobs" in messages())
        assert job.id not in messages()

    def test_inputs_that_are_not_there(self, server: ApiServer, client: httpx.Client, spec: dict[str, Any]) -> None:
        other = server.new_tenant("other").client
        found = read_problem(client.post("/v1/jobs", json=spec | {"model": "mdl_x"}), 404, "not-found")
        assert "model 'mdl_x'" in found.detail
        found = read_problem(client.post("/v1/jobs", json=spec | {"dataset": "dts_x"}), 404, "not-found")
        assert "data set 'dts_x'" in found.detail
        read_problem(other.post("/v1/jobs", json=spec), 404, "not-found")
        read_problem(other.post("/v1/jobs", params={"dry_run": "1"}, json=spec), 404, "not-found")

    def test_inputs_that_cannot_be_used(self, server: ApiServer, client: httpx.Client) -> None:
        model = client.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file()).json()["id"]
        spec = {"model": model, "steps": [PRUNE]}
        response = client.post("/v1/jobs", json=spec)
        read_problem(response, 409, "not-ready")
        assert int(response.headers["retry-after"]) > 0
        server.inspect(Failure(kind=FailureKind.INVALID_MODEL, message="key conv.weight is missing"))
        found = read_problem(client.post("/v1/jobs", json=spec), 409, "rejected-upload")
        assert "key conv.weight is missing" in found.detail

    def test_data_that_does_not_fit_the_model(self, server: ApiServer, client: httpx.Client) -> None:
        model = client.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file()).json()["id"]
        server.inspect(model_inspection(num_classes=7))
        dataset = client.post("/v1/datasets", content=npz_file()).json()["id"]
        server.inspect(dataset_inspection(size=28))
        response = client.post("/v1/jobs", json={"model": model, "dataset": dataset, "steps": [PRUNE]})
        errors = read_problem(response, 422, "incompatible-spec").errors
        assert [error.where for error in errors] == ["dataset", "dataset"]
        assert "3 x 28 x 28" in errors[0].message
        assert "7 outputs" in errors[1].message


class TestStudents:
    """Jobs whose student begins as another uploaded model."""

    @pytest.fixture
    def upload(self, server: ApiServer, client: httpx.Client) -> Callable[..., str]:
        def upload(result: ModelInspection | Failure | None = None, by: httpx.Client = client) -> str:
            response = by.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file(seed=7))
            if result is not None:
                server.inspect(result)
            return str(response.json()["id"])

        return upload

    def test_an_uploaded_student_is_taken(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job], upload: Callable[..., str]
    ) -> None:
        student = upload(model_inspection())
        job = submit(steps=[PRUNE, distilled(student), distilled(student)])
        read_problem(client.delete(f"/v1/models/{student}"), 409, "in-use")
        claimed = server.claim()
        assert claimed.id == job.id
        assert list(claimed.students) == [student]
        server.succeed(claimed)
        assert client.delete(f"/v1/models/{student}").status_code == 204
        assert client.get(f"/v1/jobs/{job.id}").json()["spec"]["steps"][1]["student"]["model"] == student

    def test_the_model_itself_may_be_the_student(self, spec: dict[str, Any], submit: Callable[..., Job]) -> None:
        assert submit(steps=[distilled(spec["model"])]).state == "queued"

    @pytest.mark.parametrize("params", [{}, {"dry_run": "true"}])
    def test_a_student_that_is_not_there_is_refused_with_its_place(
        self,
        server: ApiServer,
        client: httpx.Client,
        spec: dict[str, Any],
        upload: Callable[..., str],
        params: dict[str, str],
    ) -> None:
        deleted = upload(model_inspection())
        client.delete(f"/v1/models/{deleted}")
        theirs = upload(model_inspection(), server.new_tenant("other").client)
        told = []
        for student in ("mdl_never", theirs, deleted, spec["dataset"]):
            body = spec | {"steps": [PRUNE, distilled(student)]}
            found = read_problem(client.post("/v1/jobs", params=params, json=body), 404, "not-found")
            (error,) = found.errors
            assert error.where == "steps.1.student.model"
            told.append(error.message.replace(student, "ID"))
        # Another team's id is told like one that never was.
        assert len(set(told)) == 1
        assert client.get("/v1/jobs").json()["items"] == []

    @pytest.mark.parametrize("params", [{}, {"dry_run": "true"}])
    def test_a_student_that_cannot_be_used(
        self, client: httpx.Client, spec: dict[str, Any], upload: Callable[..., str], params: dict[str, str]
    ) -> None:
        rejected = upload(Failure(kind=FailureKind.INVALID_MODEL, message="key conv.weight is missing"))
        inspecting = upload()
        for student, kind, says in (
            (rejected, "rejected-upload", "key conv.weight is missing"),
            (inspecting, "not-ready", "still being inspected"),
        ):
            body = spec | {"steps": [distilled(student)]}
            (error,) = read_problem(client.post("/v1/jobs", params=params, json=body), 409, kind).errors
            assert error.where == "steps.0.student.model"
            assert says in error.message

    def test_a_student_that_does_not_fit(
        self, client: httpx.Client, spec: dict[str, Any], upload: Callable[..., str]
    ) -> None:
        student = upload(model_inspection(num_classes=7))
        response = client.post("/v1/jobs", json=spec | {"steps": [distilled(student)]})
        (error,) = read_problem(response, 422, "incompatible-spec").errors
        assert error.where == "steps.0.student.model"
        assert "7 outputs, the model 10" in error.message

    def test_the_id_is_required(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        step = distilled("x") | {"student": {"kind": "uploaded"}}
        (error,) = read_problem(client.post("/v1/jobs", json=spec | {"steps": [step]}), 422, "invalid-request").errors
        assert error.where == "steps.0.student.model"


class TestIdempotency:
    def test_a_replay_gives_the_first_job(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": "abc"}
        first, second = (client.post("/v1/jobs", json=spec, headers=headers) for _ in range(2))
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json() == second.json()
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"
        assert len(client.get("/v1/jobs").json()["items"]) == 1

    def test_a_replay_after_the_model_was_deleted(
        self, server: ApiServer, client: httpx.Client, spec: dict[str, Any]
    ) -> None:
        headers = {"Idempotency-Key": "abc"}
        job = client.post("/v1/jobs", json=spec, headers=headers).json()
        server.fail(server.claim(), Failure(kind=FailureKind.INTERNAL, message="x"))
        assert client.delete(f"/v1/models/{spec['model']}").status_code == 204
        assert client.post("/v1/jobs", json=spec, headers=headers).json()["id"] == job["id"]

    def test_the_same_key_for_another_job_is_refused(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": "abc"}
        client.post("/v1/jobs", json=spec, headers=headers)
        response = client.post("/v1/jobs", json=spec | {"seed": 1}, headers=headers)
        read_problem(response, 422, "idempotency-key-reused")

    def test_a_refused_job_does_not_use_up_the_key(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": "abc"}
        bad = spec | {"steps": [PRUNE | {"layers": {"include": ["nothing*"]}}]}
        read_problem(client.post("/v1/jobs", json=bad, headers=headers), 422, "incompatible-spec")
        assert client.post("/v1/jobs", json=spec, headers=headers).status_code == 202

    def test_many_at_once_make_one_job(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        def post(_: int) -> str:
            return str(client.post("/v1/jobs", json=spec, headers={"Idempotency-Key": "abc"}).json()["id"])

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(post, range(16)))) == 1

    def test_a_key_that_is_too_long(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        response = client.post("/v1/jobs", json=spec, headers={"Idempotency-Key": "x" * 201})
        assert read_problem(response, 422, "invalid-request").errors[0].where == "Idempotency-Key"


class TestNeeds:
    def test_what_no_worker_has_is_refused_by_name(
        self, server: ApiServer, client: httpx.Client, spec: dict[str, Any]
    ) -> None:
        server.be_there("small", CPU)
        needs = {"device": "cuda", "cores": 5, "memory_bytes": CPU.memory_bytes}
        found = read_problem(client.post("/v1/jobs", json=spec | {"needs": needs}), 422, "incompatible-spec")
        assert {error.where for error in found.errors} == {"needs.device", "needs.cores"}
        assert all("cpu, 4 cores, 8.0 GiB of memory" in error.message for error in found.errors)
        assert client.get("/v1/jobs").json()["items"] == []

    def test_what_no_worker_has_at_once_is_refused(
        self, server: ApiServer, client: httpx.Client, spec: dict[str, Any]
    ) -> None:
        server.be_there("small", CPU)
        server.be_there("gpu", GPU)
        found = read_problem(
            client.post("/v1/jobs", json=spec | {"needs": {"device": "cpu", "cores": 16}}), 422, "incompatible-spec"
        )
        (error,) = found.errors
        assert error.where == "needs"
        assert GPU.in_words() in error.message

    def test_without_any_worker_or_while_one_is_away_a_job_waits(
        self, server: ApiServer, client: httpx.Client, spec: dict[str, Any]
    ) -> None:
        needs = {"device": "cuda"}
        assert client.post("/v1/jobs", json=spec | {"needs": needs}).status_code == 202
        server.be_there("small", CPU)
        server.be_there("gpu", GPU, seconds=-1.0)
        assert client.post("/v1/jobs", json=spec | {"needs": needs}).status_code == 202

    def test_gpu_memory_needs_a_gpu(self, client: httpx.Client, spec: dict[str, Any]) -> None:
        response = client.post("/v1/jobs", json=spec | {"needs": {"gpu_memory_bytes": 1}})
        assert "device: cuda" in read_problem(response, 422, "invalid-request").errors[0].message


class TestLook:
    def test_the_list_filters(self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]) -> None:
        first, second = submit(), submit(seed=1)
        server.succeed(server.claim())

        def listed(**query: str) -> list[str]:
            response = client.get("/v1/jobs", params=query)
            return [job.id for job in Page[Job].model_validate(response.json()).items]

        assert listed() == [second.id, first.id]
        assert listed(state="succeeded") == [first.id]
        assert listed(state="queued") == [second.id]
        assert listed(model=first.spec.model) == [second.id, first.id]
        assert listed(model="mdl_other") == []
        found = read_problem(client.get("/v1/jobs", params={"state": "done"}), 422, "invalid-request")
        assert found.errors[0].where == "state"

    def test_the_place_in_the_queue_moves_up(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        submit()
        job = submit(seed=1)
        before = client.get(f"/v1/jobs/{job.id}")
        assert before.json()["queue_position"] == 2
        server.claim()
        # Nothing of this job has changed, but the answer has.
        after = client.get(f"/v1/jobs/{job.id}", headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.json()["queue_position"] == 1

    def test_a_waiting_job_says_what_for_and_when_it_starts(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        job = submit(priority=3, needs={"device": "cuda"})
        assert job.spec.priority == 3
        assert job.waiting is not None
        assert (job.waiting.reason, job.expected_start) == ("no_worker", None)
        before = client.get(f"/v1/jobs/{job.id}")
        server.be_there("small", CPU)
        after = client.get(f"/v1/jobs/{job.id}", headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.json()["waiting"]["reason"] == "no_fitting_worker"
        server.be_there("gpu", GPU)
        (listed,) = Page[Job].model_validate(client.get("/v1/jobs").json()).items
        assert listed.waiting is not None
        assert (listed.waiting.reason, listed.queue_position) == ("turn", 1)
        assert listed.expected_start is not None
        server.claim()
        taken = Job.model_validate(client.get(f"/v1/jobs/{job.id}").json())
        assert (taken.waiting, taken.expected_start, taken.queue_position) == (None, None, None)

    def test_an_answer_that_the_caller_has_is_not_sent_again(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        path = f"/v1/jobs/{submit().id}"
        tag = client.get(path).headers["etag"]
        for header in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = client.get(path, headers={"If-None-Match": header})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        server.claim()
        changed = client.get(path, headers={"If-None-Match": tag})
        assert (changed.status_code, changed.json()["state"]) == (200, "running")

    def test_a_running_job_tells_its_progress(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        job = submit()
        server.tell(server.claim(), progress(0.25))
        seen = Job.model_validate(client.get(f"/v1/jobs/{job.id}").json())
        assert seen.progress == progress(0.25)
        assert [attempt.worker for attempt in seen.attempts] == ["tester"]
        assert seen.queue_position is None

    def test_a_failed_job_tells_why(self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]) -> None:
        job = submit()
        failure = Failure(kind=FailureKind.DIVERGED, message="the loss is not a number; lower the rate", step=0)
        server.fail(server.claim(), failure)
        seen = Job.model_validate(client.get(f"/v1/jobs/{job.id}").json())
        assert (seen.state, seen.failure) == ("failed", failure)

    def test_each_attempt_tells_how_it_ended_and_how_long_it_took(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        job = submit()
        first = server.claim()
        with server.database.session() as session:
            assert keep_checkpoint(session, job.id, first.attempt, "steps", sha256="0" * 64, size=1)
            assert release(session, job.id, first.attempt, "the worker was stopped")
        server.claim()
        one, other = Job.model_validate(client.get(f"/v1/jobs/{job.id}").json()).attempts
        assert (one.outcome, one.reason, one.continues) == ("released", "the worker was stopped", None)
        assert one.finished_at is not None
        assert one.seconds == (one.finished_at - one.started_at).total_seconds() >= 0
        assert (other.outcome, other.reason, other.seconds, other.continues) == (None, None, None, 1)

    def test_another_team_sees_nothing(self, server: ApiServer, submit: Callable[..., Job]) -> None:
        job = submit()
        other = server.new_tenant("other").client
        for path in ("", "/events", "/log", "/report", "/artifacts"):
            read_problem(other.get(f"/v1/jobs/{job.id}{path}"), 404, "not-found")
        for path in ("/cancel", "/retry"):
            read_problem(other.post(f"/v1/jobs/{job.id}{path}"), 404, "not-found")
        assert other.get("/v1/jobs").json()["items"] == []


class TestWait:
    @staticmethod
    def in_background(work: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(work()))
        thread.start()
        return thread, answers

    def test_it_answers_at_the_change(self, server: ApiServer, tenant: Tenant, submit: Callable[..., Job]) -> None:
        path = f"/v1/jobs/{submit().id}"
        tag = tenant.client.get(path).headers["etag"]
        for headers in ({}, {"If-None-Match": tag}):
            before = tenant.client.get(path).json()
            waiter = server.client(tenant.key)
            if headers:
                headers = {"If-None-Match": tenant.client.get(path).headers["etag"]}
            thread, answers = self.in_background(lambda: waiter.get(path, params=LONG, headers=headers))  # noqa: B023  # joined within the loop
            until(lambda: len(server.app.state.services.watch._waiters) > 0)  # nothing public says it
            assert thread.is_alive()
            if before["state"] == "queued":
                claimed = server.claim()
            else:
                server.tell(claimed, progress(0.5))
            thread.join(60)
            assert answers[0].status_code == 200
            assert answers[0].json() != before

    def test_it_answers_at_once_when_the_caller_is_behind(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        path = f"/v1/jobs/{submit().id}"
        tag = client.get(path).headers["etag"]
        server.claim()
        thread, answers = self.in_background(lambda: client.get(path, params=LONG, headers={"If-None-Match": tag}))
        thread.join(10)
        assert answers[0].json()["state"] == "running"

    def test_it_answers_at_once_when_nothing_will_change(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        path = f"/v1/jobs/{submit().id}"
        server.succeed(server.claim())
        tag = client.get(path).headers["etag"]
        thread, answers = self.in_background(lambda: client.get(path, params=LONG, headers={"If-None-Match": tag}))
        thread.join(10)
        assert answers[0].status_code == 304

    def test_it_answers_when_the_time_is_up(self, client: httpx.Client, submit: Callable[..., Job]) -> None:
        path = f"/v1/jobs/{submit().id}"
        tag = client.get(path).headers["etag"]
        assert client.get(path, params={"wait": 0.3}).status_code == 200
        assert client.get(path, params={"wait": 0.3}, headers={"If-None-Match": tag}).status_code == 304

    @pytest.mark.parametrize("wait", ["-1", "61", "long", "nan", "inf"])
    def test_a_time_that_is_none(self, client: httpx.Client, submit: Callable[..., Job], wait: str) -> None:
        response = client.get(f"/v1/jobs/{submit().id}", params={"wait": wait})
        assert read_problem(response, 422, "invalid-request").errors[0].where == "wait"


class TestChange:
    def test_cancel_and_try_again(self, client: httpx.Client, submit: Callable[..., Job]) -> None:
        path = f"/v1/jobs/{submit().id}"
        cancelled = client.post(f"{path}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
        # Who has lost the answer asks again, and has it.
        assert client.post(f"{path}/cancel").json() == cancelled.json()
        again = client.post(f"{path}/retry")
        assert (again.status_code, again.json()["state"], again.json()["queue_position"]) == (202, "queued", 1)
        read_problem(client.post(f"{path}/retry"), 409, "invalid-transition")

    def test_a_running_job_is_stopped_by_its_worker(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        path = f"/v1/jobs/{submit().id}"
        server.claim()
        for _ in range(2):
            answer = client.post(f"{path}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")

    def test_a_retry_without_its_model(
        self, server: ApiServer, client: httpx.Client, submit: Callable[..., Job]
    ) -> None:
        job = submit()
        client.post(f"/v1/jobs/{job.id}/cancel")
        client.delete(f"/v1/models/{job.spec.model}")
        assert "upload it again" in read_problem(client.post(f"/v1/jobs/{job.id}/retry"), 409, "input-deleted").detail
