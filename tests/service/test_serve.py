"""The whole service by one command, as a user starts and stops it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from db.database import open_database
from db.queries.jobs import get_job
from db.queries.teams import find_key
from modelpress.spec.state import JobState
from storage.local import LocalStore
from tests.support import scripted_engine
from tests.support.patience import SHORT_LEASE_SECONDS
from tests.support.processes import service_environment
from tests.support.rows import Tenant

pytestmark = pytest.mark.slow

SECONDS = 60.0


def _wait_for(condition, what: str, log: Path) -> None:
    give_up = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(f"still waiting for {what}:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)


def _command(home: Path) -> list[str]:
    return [sys.executable, "-m", "service.serve", "--home", str(home), "--port", "0"]


@contextmanager
def _serving(
    home: Path, *before: str, place: Path | None = None, **settings: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A running service that has said so, its command with some words `before`, in the current folder `place`;
    whatever is left of it is killed after the block."""
    home.mkdir(exist_ok=True)
    log = home / "serve.log"
    environment = service_environment(**{name: str(value) for name, value in settings.items()})
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*before, *_command(home)],
            env=environment,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    family = {psutil.Process(process.pid)}
    try:
        _wait_for(lambda: b"ModelPress 0" in log.read_bytes() or process.poll() is not None, "the service", log)
        assert process.poll() is None, log.read_text()
        family |= set(psutil.Process(process.pid).children(recursive=True))
        yield process
    finally:
        for member in family:
            if member.is_running():
                member.kill()
        process.wait()


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def _submit(home: Path) -> tuple[str, Tenant]:
    """A job in the queue, put there behind the API's back."""
    database = open_database(f"sqlite:///{home}/modelpress.db")
    with database.session() as session:
        key = find_key(session, (home / "api-key").read_text().strip())
        assert key is not None
    tenant = Tenant(database, key.team_id)
    (home / "upload").write_bytes(b"weights")
    model = tenant.upload_model(sha256=LocalStore(home / "store").put_file(home / "upload").sha256)
    return tenant.submit(model).id, tenant


def _state(job_id: str, tenant: Tenant) -> JobState:
    with tenant.database.session(read_only=True) as session:
        job = get_job(session, tenant.team_id, job_id)
    assert job is not None
    return job.state


def test_it_answers_with_the_key_it_left_and_ends_without_a_trace(tmp_path):
    home = tmp_path / "home"
    with _serving(home) as process:
        address, key = ((home / name).read_text().strip() for name in ("address", "api-key"))
        assert stat.S_IMODE((home / "api-key").stat().st_mode) == 0o600
        assert f"at {address}" in (home / "serve.log").read_text()
        assert str(home / "api-key") in (home / "serve.log").read_text()
        assert "The jail around the engine (MODELPRESS_JAIL=auto): " in (home / "serve.log").read_text()
        assert key not in (home / "serve.log").read_text()
        assert httpx.get(f"{address}/readyz").status_code == 200
        assert httpx.get(f"{address}/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert httpx.get(f"{address}/v1/jobs").status_code == 401
        family = _family(process)
        assert len(family) >= 3
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        assert process.wait(SECONDS) == 0
        assert [member for member in family if not _is_gone(member)] == []
    assert not (home / "address").exists()

    with _serving(home, keep_engine_loaded=False):
        assert (home / "api-key").read_text().strip() == key  # the key stays good


def test_a_second_one_is_told_of_the_first_and_leaves_it_alone(tmp_path):
    home = tmp_path / "home"
    with _serving(home, keep_engine_loaded=False) as process:
        address = (home / "address").read_text().strip()
        second = subprocess.run(
            _command(home), env=service_environment(), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert address in second.stderr
        assert process.poll() is None
        assert httpx.get(f"{address}/readyz").status_code == 200


def test_a_port_in_use_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [*_command(tmp_path)[:-1], port]
        refused = subprocess.run(
            command, env=service_environment(), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "192.0.2.1"}, "MODELPRESS_ALLOW_OPEN_BIND"),
        ({"databse_url": "x"}, "MODELPRESS_DATABASE_URL"),
        ({"database_url": "mysql://x/y"}, "sqlite or postgresql"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line_each(tmp_path, settings, words):
    refused = subprocess.run(
        _command(tmp_path),
        env=service_environment(**settings),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_running_job_goes_on_after_a_restart(tmp_path):
    home = tmp_path / "home"
    engine = f"{sys.executable} {scripted_engine.__file__} spawn -"
    with _serving(home, engine_command=engine, lease_seconds=60) as process:
        job_id, tenant = _submit(home)
        _wait_for(lambda: any((home / "work").glob("*/pids")), "the engine", home / "serve.log")
        family = _family(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert [member for member in family if not _is_gone(member)] == []
    assert _state(job_id, tenant) is JobState.QUEUED
    with _serving(home, engine_command=engine, lease_seconds=60):
        _wait_for(lambda: _state(job_id, tenant) is JobState.RUNNING, "the job to go on", home / "serve.log")
    tenant.database.dispose()


def test_a_killed_supervisor_takes_all_its_processes_with_it(tmp_path):
    home = tmp_path / "home"
    engine = f"{sys.executable} {scripted_engine.__file__} spawn -"
    with _serving(home, engine_command=engine, lease_seconds=SHORT_LEASE_SECONDS) as process:
        job_id, tenant = _submit(home)
        _wait_for(lambda: any((home / "work").glob("*/pids")), "the engine", home / "serve.log")
        family = _family(process)
        assert len(family) >= 5
        process.kill()
        process.wait()
        _wait_for(lambda: all(map(_is_gone, family)), "the end of all processes", home / "serve.log")
    # Neither lock nor address of the dead one is in the way.
    with _serving(home, engine_command=engine, lease_seconds=SHORT_LEASE_SECONDS):
        _wait_for(lambda: _state(job_id, tenant) is JobState.RUNNING, "the job to go on", home / "serve.log")
    tenant.database.dispose()


def test_a_process_that_dies_is_started_again(tmp_path):
    home = tmp_path / "home"
    with _serving(home, keep_engine_loaded=False) as process:
        address = (home / "address").read_text().strip()
        api = next(member for member in _family(process) if "uvicorn" in " ".join(member.cmdline()))
        api.kill()

        def answers() -> bool:
            try:
                return _is_gone(api) and httpx.get(f"{address}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        _wait_for(answers, "the API to be back", home / "serve.log")
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


def test_it_runs_wherever_it_is_started_and_behind_a_terminal_that_closed(tmp_path):
    """Beside somebody's own packages of our names, on every address, ignoring what `nohup` ignores."""
    place, home = tmp_path / "project", tmp_path / "home"
    (place / "api").mkdir(parents=True)
    (place / "api/__init__.py").touch()
    (place / "worker.py").write_text("raise SystemExit('this is not yours')")
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            host = "0.0.0.0"  # noqa: S104  # a machine without IPv6
        else:
            host = "::"
    with _serving(home, "nohup", place=place, host=host, allow_open_bind=True, keep_engine_loaded=False) as process:
        address = (home / "address").read_text().strip()
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        assert httpx.get(f"{address}/healthz").status_code == 200
        workers = [member for member in _family(process) if "worker" in member.cmdline()]
        assert len(workers) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
