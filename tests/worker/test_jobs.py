"""Jobs from the queue to their end, by a real worker, over each pair of database and broker.

The engine is a script that behaves as told; everything else is real.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict

import httpx
import psutil
import pytest
import redis
from sqlalchemy import update

from db.models import Attempt, Job
from db.queries.jobs import artifacts, attempts, cancel, events_after
from modelpress.spec.event import Progress, StateChanged, Warned
from modelpress.spec.failure import FailureKind
from modelpress.spec.state import JobState
from modelpress.spec.task import Compress
from service.jail.walls import active_walls
from service.wakeup import JOBS_QUEUE, make_celery
from tests.support.database_lock import is_locked
from tests.support.free_port import free_port
from tests.support.patience import SHORT_LEASE_SECONDS
from tests.support.processes import engine_processes, freeze
from tests.support.rows import ARCHITECTURE, PREPROCESSING
from tests.worker.conftest import BY_ITS_SIGNALS, wait_for

pytestmark = pytest.mark.slow

FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def _artifacts(site, job):
    with site.database.session(read_only=True) as session:
        return {artifact.filename: artifact for artifact in artifacts(session, job.id)}


def _events(site, job):
    with site.database.session(read_only=True) as session:
        return [row.event for row in events_after(session, job.id, 0, 1000)]


def _attempts(site, job) -> list[Attempt]:
    with site.database.session(read_only=True) as session:
        return attempts(session, job.id)


def _log(site, job) -> str:
    return b"".join(site.store.read(_artifacts(site, job)["log.txt"].sha256)).decode()


def _spawned(site) -> bool:
    return bool(site.work_files("pids")) and len(engine_processes(site.home)) >= 3


def test_a_job_is_carried_out_and_leaves_only_what_it_should(site):
    with site.start_worker(engine_command=site.engine("succeed")):
        job = site.submit()
        done = site.wait_for_state(job, *FINAL)
        assert done.state is JobState.SUCCEEDED, done.failure
    files = _artifacts(site, job)
    assert {name: files[name].kind for name in files} == {
        "model.mpz": "compact",
        "model.safetensors": "safetensors",
        "log.txt": "log",
    }
    assert b"".join(site.store.read(files["model.mpz"].sha256)) == f"compact of {job.id}-1".encode()
    assert _log(site, job) == "all done\n"
    said = [event for event in _events(site, job) if not isinstance(event, StateChanged)]
    assert [event.kind for event in said][:2] == ["progress", "warning"]
    assert isinstance(said[1], Warned)
    assert done.progress is not None
    assert done.progress.fraction == 0.9
    assert [attempt.outcome for attempt in _attempts(site, job)] == ["succeeded"]
    assert list((site.home / "work").iterdir()) == []
    assert engine_processes(site.home) == []


def test_every_job_that_waits_is_done_whether_or_not_its_wakeup_came(site):
    jobs = [site.tenant.submit(site.store_model(str(number).encode())) for number in range(4)]
    with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2):
        for job in jobs:
            assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
        late = site.tenant.submit(site.store_model(b"late"))  # nobody is told of this one
        assert site.wait_for_state(late, *FINAL).state is JobState.SUCCEEDED


def test_two_workers_do_each_job_once(site):
    command = site.engine("succeed")
    with (
        site.start_worker(engine_command=command, poll_seconds=0.2, log="one.log"),
        site.start_worker(engine_command=command, poll_seconds=0.2),
    ):
        jobs = [site.submit() for _ in range(8)]
        for job in jobs:
            site.wait_for_state(job, *FINAL)
    for job in jobs:
        assert [attempt.outcome for attempt in _attempts(site, job)] == ["succeeded"]
        assert [e.state for e in _events(site, job) if isinstance(e, StateChanged)].count("succeeded") == 1


@BY_ITS_SIGNALS
def test_a_stopped_worker_gives_the_job_back_and_leaves_no_process(site, number):
    with site.start_worker(engine_command=site.engine("spawn"), lease_seconds=60) as worker:
        job = site.submit()
        wait_for(lambda: _spawned(site), "the engine's children")
        engine = int(site.work_files("pids")[0].read_text())
        worker.send_signal(number)
        worker.wait(10)
        assert worker.returncode == 0
    assert engine_processes(site.home) == []
    assert not psutil.pid_exists(engine)
    assert site.job(job).state is JobState.QUEUED
    assert [attempt.outcome for attempt in _attempts(site, job)] == ["released"]
    assert list((site.home / "work").iterdir()) == []

    with site.start_worker(engine_command=site.engine("succeed")):
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    assert [attempt.number for attempt in _attempts(site, job)] == [1, 2]


def test_a_cancelled_job_ends_within_five_seconds_and_keeps_its_log(site):
    with site.start_worker(engine_command=site.engine("spawn"), lease_seconds=60):
        job = site.submit()
        wait_for(lambda: _spawned(site), "the engine's children")
        with site.database.session() as session:
            cancel(session, site.tenant.team_id, job.id)
        wait_for(lambda: site.job(job).state is JobState.CANCELLED, "the end of the job", seconds=5)
        assert engine_processes(site.home) == []
        assert set(_artifacts(site, job)) == {"log.txt"}


def test_the_job_of_a_killed_worker_goes_to_another(site):
    with site.start_worker(engine_command=site.engine("spawn"), lease_seconds=SHORT_LEASE_SECONDS) as worker:
        job = site.submit()
        wait_for(lambda: _spawned(site), "the engine's children")
        worker.kill()
        worker.wait()
    # The launcher saw its worker die and cleared up.
    wait_for(lambda: not engine_processes(site.home), "the end of the engine", seconds=5)
    left = list((site.home / "work").glob("*/task.json"))
    assert len(left) == 1
    with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2):
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    assert [attempt.outcome for attempt in _attempts(site, job)] == ["lost", "succeeded"]
    assert not left[0].exists()


def _freeze(site, worker) -> None:
    """As a machine that swaps does, but not in the midst of a transaction of SQLite, which no other worker outlasts."""
    freeze(worker.pid)
    while is_locked(site.database_url):
        worker.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        freeze(worker.pid)


def test_the_child_of_a_frozen_worker_ends_with_its_lease_and_the_worker_writes_nothing_more(site):
    with site.start_worker(engine_command=site.engine("spawn"), lease_seconds=SHORT_LEASE_SECONDS) as worker:
        job = site.submit()
        wait_for(lambda: _spawned(site), "the engine's children")
        _freeze(site, worker)
        try:
            # The launcher misses its signs of life, and does not leave the engine to compute beside the next attempt.
            wait_for(
                lambda: not engine_processes(site.home), "the end of the first engine", seconds=SHORT_LEASE_SECONDS
            )
            with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=0.2, log="other.log"):
                done = site.wait_for_state(job, *FINAL)
        finally:
            worker.send_signal(signal.SIGCONT)
        wait_for(lambda: "outcome=lost" in site.log(), "the first worker to see it", seconds=5)
    assert done.state is JobState.SUCCEEDED
    assert site.job(job).version == done.version
    assert [attempt.outcome for attempt in _attempts(site, job)] == ["lost", "succeeded"]


def test_a_job_that_misses_its_goal_keeps_files_and_report(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("miss_goal")):
        job = site.submit()
        done = site.wait_for_state(job, *FINAL)
    assert done.state is JobState.FAILED
    assert done.failure.kind is FailureKind.GOAL_NOT_MET
    assert set(_artifacts(site, job)) == {"model.mpz", "model.safetensors", "log.txt"}


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ("die", FailureKind.OUT_OF_MEMORY, "killed from outside"),
        ("crash", FailureKind.INTERNAL, "code 3"),
        ("swap_artifact", FailureKind.VERIFICATION_FAILED, "not the file that was verified"),
        ("link_artifact", FailureKind.VERIFICATION_FAILED, "not a plain file"),
    ],
)
def test_a_failed_job_says_why_and_keeps_its_log_alone(embedded_site, behaviour, kind, words):
    site = embedded_site
    with site.start_worker(engine_command=site.engine(behaviour)):
        job = site.submit()
        done = site.wait_for_state(job, *FINAL)
    assert done.state is JobState.FAILED
    assert done.failure.kind is kind
    assert words in done.failure.message
    assert set(_artifacts(site, job)) == {"log.txt"}


@pytest.mark.parametrize(
    ("behaviour", "argument", "settings", "kind"),
    [
        ("eat_memory", 300 << 20, {"memory_limit_bytes": 128 << 20}, FailureKind.OUT_OF_MEMORY),
        ("fill_disk", 24 << 20, {"disk_limit_bytes": 8 << 20}, FailureKind.OUT_OF_DISK),
        ("spawn", None, {"job_timeout_seconds": 1}, FailureKind.TIMEOUT),
        ("spawn", None, {"disk_reserve_bytes": 1 << 60}, FailureKind.OUT_OF_DISK),
    ],
)
def test_a_job_beyond_its_limits_is_ended(embedded_site, behaviour, argument, settings, kind):
    site = embedded_site
    command = site.engine(behaviour, argument)
    with site.start_worker(engine_command=command, **settings):
        job = site.submit()
        done = site.wait_for_state(job, *FINAL)
        assert engine_processes(site.home) == []
    assert done.state is JobState.FAILED
    assert done.failure.kind is kind
    if kind is FailureKind.OUT_OF_MEMORY:
        assert done.failure.step == 0
        assert done.failure.message.endswith(". Step 0 (prune) was at work")


def test_what_earlier_attempts_ran_counts(embedded_site):
    site = embedded_site
    job = site.tenant.submit(site.store_model(), run_limit_seconds=100)
    with site.database.session() as session:
        session.execute(update(Job).values(run_seconds=99.5))
    with site.start_worker(engine_command=site.engine("spawn"), poll_seconds=0.2):
        done = site.wait_for_state(job, *FINAL)
    assert done.failure.kind is FailureKind.TIMEOUT
    assert "longer than the 100 seconds that it may, all its attempts together" in done.failure.message
    assert 100 < done.run_seconds < 160


def test_what_an_engine_leaves_running_is_ended(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("leave_orphan")):
        job = site.submit()
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
        assert engine_processes(site.home) == []


def test_an_engine_whose_launcher_was_killed_is_ended_by_the_worker(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("spawn"), max_attempts=1) as worker:
        job = site.submit()
        wait_for(lambda: _spawned(site), "the engine's children")
        psutil.Process(worker.pid).children()[0].kill()
        done = site.wait_for_state(job, *FINAL)
        assert engine_processes(site.home) == []
    assert done.failure.kind is FailureKind.OUT_OF_MEMORY


def test_the_figures_of_a_worker_are_served(embedded_site):
    site, port = embedded_site, free_port()
    with site.start_worker(engine_command=site.engine("succeed"), worker_metrics_port=port):
        site.wait_for_state(site.submit(), *FINAL)
        wait_for(lambda: "job_left" in site.log(), "the end of the job", explain=site.log)
        figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'modelpress_worker_claims_total{work="job"} 1.0' in figures
    assert 'modelpress_worker_finished_total{outcome="succeeded",work="job"} 1.0' in figures
    assert 'modelpress_worker_seconds_count{work="job"} 1.0' in figures
    assert "modelpress_worker_heartbeat_failures_total 0.0" in figures
    for wall, value in asdict(active_walls("auto")).items():
        assert f'modelpress_worker_wall{{wall="{wall}"}} {float(value)}' in figures


def test_nonsense_among_the_events_is_left_out(site):
    with site.start_worker(engine_command=site.engine("babble")):
        job = site.submit()
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    said = _events(site, job)
    assert [e.state for e in said if isinstance(e, StateChanged)] == ["queued", "running", "succeeded"]
    assert "true words" in [e.message for e in said if isinstance(e, Warned)]
    assert next(e.fraction for e in said if isinstance(e, Progress)) == 0.1


def test_a_log_is_cut_at_its_limit(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("shout"), log_limit_bytes=8192):
        job = site.submit()
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    log = _log(site, job)
    assert len(log) == 8192
    assert log.endswith("[log cut here: it reached its limit]\n")


def test_an_engine_sees_no_secret_and_no_open_file_of_the_worker(site):
    with site.start_worker(
        engine_command=site.engine("show"), s3_access_key_id="press", s3_secret_access_key="hush", threads=1
    ):
        job = site.submit()
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    shown, session = map(json.loads, _log(site, job).splitlines()[:2])
    folder = str(site.home / "work" / f"{job.id}-1")
    assert shown["folder"] == shown["cwd"] == folder
    environment = shown["environment"]
    assert set(environment) <= {
        *("PATH", "HOME", "TMPDIR", "LANG", "PYTHONSAFEPATH", "PYTHONNOUSERSITE", "PYTHONUNBUFFERED"),
        *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "LC_CTYPE"),
        *("ORT_DISABLE_TELEMETRY", "PWD"),
    }
    assert environment["HOME"] == environment.get("PWD", folder) == folder  # Bubblewrap says where it begins
    assert environment["OMP_NUM_THREADS"] == "1"
    assert not [secret for secret in ("hush", "press", site.database_url) if secret in environment.values()]
    assert len(session["descriptors"]) == 4  # the three standard ones, and that of the listing itself
    assert session["session"] != os.getsid(0)


def test_the_files_of_students_are_laid_beside_the_models(site):
    model, one, two = (site.store_model(content) for content in (b"original", b"one", b"two"))
    with site.start_worker(engine_command=site.engine("show_inputs"), poll_seconds=0.2):
        job = site.tenant.submit(model, site.store_dataset(), students=[one, two, one])
        done = site.wait_for_state(job, *FINAL)
        assert done.state is JobState.SUCCEEDED, done.failure
    task, laid = _log(site, job).splitlines()[:2]
    students = Compress.model_validate_json(task).students
    assert {name: student.sha256 for name, student in students.items()} == {
        one.id: hashlib.sha256(b"one").hexdigest(),
        two.id: hashlib.sha256(b"two").hexdigest(),
    }
    for name, student in students.items():
        assert json.loads(laid)[student.path] == student.sha256
        assert (student.format, student.architecture, student.image_size) == ("safetensors", ARCHITECTURE, 32), name
        assert student.preprocessing == PREPROCESSING
    assert len(json.loads(laid)) == 4


def test_a_job_whose_student_is_gone_from_the_store_says_which(embedded_site):
    site = embedded_site
    student = site.tenant.upload_model()
    job = site.tenant.submit(site.store_model(), site.store_dataset(), students=[student])
    with site.start_worker(engine_command=site.engine("succeed")):
        done = site.wait_for_state(job, *FINAL)
    assert done.state is JobState.FAILED
    assert f"the stored bytes of the student '{student.id}' are gone" in done.failure.message


def test_the_settings_say_what_a_job_computes_on(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("show"), device="cpu", threads=3, processes=2):
        job = site.submit()
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    task = json.loads(_log(site, job).splitlines()[2])
    assert (task["device"], task["threads"], task["processes"]) == ("cpu", 3, 2)


def test_a_job_whose_model_is_gone_from_the_store_fails_with_advice(embedded_site):
    site = embedded_site
    job = site.tenant.submit(site.tenant.upload_model())
    with site.start_worker(engine_command=site.engine("succeed")):
        done = site.wait_for_state(job, *FINAL)
    assert done.state is JobState.FAILED
    assert "upload it again" in done.failure.message


def test_an_unknown_message_does_not_stop_the_worker(site):
    with site.start_worker(engine_command=site.engine("succeed"), poll_seconds=600) as worker:
        app = make_celery(site.settings)
        app.send_task("some.other.task", args=["x"], queue=JOBS_QUEUE)
        with app.connection_for_write() as connection:
            producer = connection.SimpleQueue(JOBS_QUEUE)
            producer.put("no task at all", serializer="json")
            producer.close()
        if site.broker_url.startswith("redis"):
            with redis.Redis.from_url(site.broker_url) as server:
                server.lpush(JOBS_QUEUE, b"no message at all", b"{}")
        else:
            folder = site.home / "broker" / "messages"
            (folder / f"0_broken.{JOBS_QUEUE}.msg").write_bytes(b"no message at all")
            (folder / f"1_broken.{JOBS_QUEUE}.msg").write_bytes(b"{}")
        job = site.submit()
        done = site.wait_for_state(job, *FINAL)
        assert worker.poll() is None
    assert done.state is JobState.SUCCEEDED


def test_a_worker_behind_a_terminal_that_closed_goes_on(embedded_site):
    with embedded_site.start_worker(by=["nohup"]) as worker:
        wait_for(lambda: "ready." in embedded_site.log(), "the worker", explain=embedded_site.log)
        worker.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1)
        worker.terminate()
        assert worker.wait(20) == 0


def test_a_stopped_idle_worker_ends_soon(site):
    with site.start_worker() as worker:
        wait_for(lambda: "ready." in site.log(), "the worker", explain=site.log)
        started = time.monotonic()
        worker.terminate()
        worker.wait(20)
    assert worker.returncode == 0, site.log()
    assert time.monotonic() - started < 20
