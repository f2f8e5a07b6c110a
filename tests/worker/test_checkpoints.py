"""Jobs that go on from what an earlier attempt kept, by a real worker, over each pair of database and broker."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from db.queries.checkpoints import checkpoint_of
from db.queries.jobs import attempts, cancel
from modelpress.spec.event import Checkpointed
from modelpress.spec.failure import FailureKind
from modelpress.spec.state import JobState
from modelpress.spec.task import CHECKPOINT_FILES, CHECKPOINT_FOLDER
from storage.local import LocalStore
from tests.support.patience import SHORT_LEASE_SECONDS
from tests.support.processes import engine_processes
from tests.worker.conftest import BY_ITS_SIGNALS, Site, wait_for
from tests.worker.test_jobs import FINAL, _artifacts, _log
from worker.checkpoint_keeper import CheckpointKeeper, open_checkpoint

pytestmark = pytest.mark.slow

QUICK = {"lease_seconds": SHORT_LEASE_SECONDS, "poll_seconds": 0.2}


def _stored(site: Site) -> set[str]:
    """The content of every checkpoint in the store."""
    contents = set()
    for path in (site.home / "store" / "objects").glob("*/*"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if content.startswith((b"none of", b"first of", b"last of")):
            contents.add(content.decode())
    return contents


def _wait_for_training(site: Site, job) -> int:
    """Wait until the first checkpoints are kept; gives the engine's process id."""

    def kept() -> bool:
        with site.database.session(read_only=True) as session:
            return set(checkpoint_of(session, job.id)) == {"steps", "training"}

    wait_for(kept, "checkpoints", explain=site.log)
    wait_for(lambda: site.work_files("pids"), "the engine")
    return int(site.work_files("pids")[0].read_text())


def _went_on_from(site: Site, job) -> dict[str, str]:
    """What the last attempt found."""
    found: dict[str, str] = json.loads(_log(site, job).splitlines()[0])
    return found


def _attempts(site: Site, job) -> list[tuple[str | None, str | None, int | None]]:
    with site.database.session(read_only=True) as session:
        return [(each.outcome, each.reason, each.continues) for each in attempts(session, job.id)]


def test_after_a_killed_worker_another_goes_on(site):
    command = site.engine("train")
    with site.start_worker(engine_command=command, **QUICK) as worker:
        job = site.submit()
        _wait_for_training(site, job)
        worker.kill()
        worker.wait()
    with site.start_worker(engine_command=command, **QUICK):
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
        assert _went_on_from(site, job) == {"steps": f"none of {job.id}-1", "training": f"first of {job.id}-1"}
        assert _attempts(site, job) == [("lost", "the worker was lost", None), ("succeeded", None, 1)]
        wait_for(lambda: not _stored(site), "the end of the checkpoints")
    assert engine_processes(site.home) == []


def test_after_a_killed_engine_the_same_worker_goes_on(site):
    with site.start_worker(engine_command=site.engine("train"), lease_seconds=60):
        job = site.submit()
        os.kill(_wait_for_training(site, job), signal.SIGKILL)
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    assert _went_on_from(site, job) == {"steps": f"none of {job.id}-1", "training": f"first of {job.id}-1"}
    assert _attempts(site, job) == [("lost", "the engine was killed from outside", None), ("succeeded", None, 1)]


@BY_ITS_SIGNALS
def test_a_stopped_worker_hands_over_a_last_checkpoint(site, number):
    command = site.engine("train")
    with site.start_worker(engine_command=command, lease_seconds=60) as worker:
        job = site.submit()
        engine = _wait_for_training(site, job)
        worker.send_signal(number)
        worker.wait(20)
        assert worker.returncode == 0
    assert not psutil.pid_exists(engine)
    assert site.job(job).state is JobState.QUEUED
    with site.start_worker(engine_command=command):
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
    assert _went_on_from(site, job) == {"steps": f"none of {job.id}-1", "training": f"last of {job.id}-1"}
    assert _attempts(site, job) == [("released", "the worker was stopped", None), ("succeeded", None, 1)]


def test_an_engine_that_is_always_killed_is_not_tried_for_ever(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("train_and_die"), poll_seconds=0.2, max_attempts=3):
        job = site.submit()
        done = site.wait_for_state(job, *FINAL)
        assert (done.state, done.failure.kind) == (JobState.FAILED, FailureKind.OUT_OF_MEMORY)
        assert "killed from outside" in done.failure.message
        wait_for(lambda: not _stored(site), "the end of the checkpoints")
    assert set(_artifacts(site, job)) == {"log.txt"}
    killed = "the engine was killed from outside"
    assert _attempts(site, job) == [("lost", killed, None), ("lost", killed, 1), ("lost", killed, 2)]


def test_of_a_cancelled_job_nothing_is_kept(embedded_site):
    site = embedded_site
    with site.start_worker(engine_command=site.engine("train"), lease_seconds=60, poll_seconds=0.2):
        job = site.submit()
        _wait_for_training(site, job)
        with site.database.session() as session:
            cancel(session, site.tenant.team_id, job.id)
        site.wait_for_state(job, JobState.CANCELLED)
        wait_for(lambda: not _stored(site), "the end of the checkpoints")


def test_a_checkpoint_whose_bytes_are_gone_costs_no_job(embedded_site):
    site = embedded_site
    command = site.engine("train")
    with site.start_worker(engine_command=command, lease_seconds=60) as worker:
        job = site.submit()
        engine = _wait_for_training(site, job)
        worker.terminate()
        worker.wait(20)
        assert not psutil.pid_exists(engine)
    for path in (site.home / "store" / "objects").glob("*/*"):
        if path.read_bytes().startswith(b"last of"):
            path.chmod(0o600)
            path.write_bytes(b"damaged")
    with site.start_worker(engine_command=command):
        assert site.wait_for_state(job, *FINAL).state is JobState.SUCCEEDED
        assert "checkpoint_gone" in site.log()
    assert _went_on_from(site, job) == {"steps": f"none of {job.id}-1"}


class TestOpening:
    """The engine may lay anything where its checkpoint should be."""

    NAME = CHECKPOINT_FILES["training"]

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / self.NAME).write_bytes(b"secret")
        (tmp_path / "work").mkdir()
        return tmp_path / "work" / CHECKPOINT_FOLDER

    def _opened(self, place: Path) -> bytes | None:
        file = open_checkpoint(place.parent, "training")
        if file is None:
            return None
        with file:
            return file.read()

    def test_a_plain_file(self, place: Path):
        assert self._opened(place) is None
        place.mkdir()
        assert self._opened(place) is None
        (place / self.NAME).write_bytes(b"plain")
        assert self._opened(place) == b"plain"

    def test_a_linked_folder(self, place: Path):
        place.symlink_to(place.parents[1] / "secret")
        assert self._opened(place) is None

    def test_a_linked_file(self, place: Path):
        place.mkdir()
        (place / self.NAME).symlink_to(place.parents[1] / "secret" / self.NAME)
        assert self._opened(place) is None

    def test_a_second_name_of_a_file(self, place: Path):
        place.mkdir()
        os.link(place.parents[1] / "secret" / self.NAME, place / self.NAME)
        assert self._opened(place) is None

    def test_a_pipe_and_a_folder(self, place: Path):
        place.mkdir()
        os.mkfifo(place / self.NAME)
        assert self._opened(place) is None
        (place / self.NAME).unlink()
        (place / self.NAME).mkdir()
        assert self._opened(place) is None


class TestKeeper:
    @pytest.fixture
    def work(self, tmp_path: Path) -> Path:
        (tmp_path / "work" / CHECKPOINT_FOLDER).mkdir(parents=True)
        return tmp_path / "work"

    def _write(self, work: Path, part: str, content: bytes) -> None:
        (work / CHECKPOINT_FOLDER / CHECKPOINT_FILES[part]).write_bytes(content)

    def _objects(self, work: Path) -> list[Path]:
        return [path for path in (work.parent / "store").rglob("*") if path.is_file()]

    def test_what_is_not_taken_leaves_nothing_in_the_store(self, work: Path):
        keeper = CheckpointKeeper(work, LocalStore(work.parent / "store"), lambda *_: False, limit_bytes=100)
        keeper.start()
        self._write(work, "training", b"of a dead attempt")
        keeper.note(Checkpointed(part="training"))
        keeper.finish()
        assert keeper.finished(30)
        assert keeper.kept("training") == 0
        assert self._objects(work) == []

    def test_what_is_too_long_is_left_out_and_the_next_one_kept(self, work: Path):
        taken = []

        def take(told, writer) -> bool:
            taken.append((told.part, writer.size))
            writer.commit()
            return True

        keeper = CheckpointKeeper(work, LocalStore(work.parent / "store"), take, limit_bytes=100)
        self._write(work, "steps", b"x" * 101)
        self._write(work, "training", b"x" * 100)
        for part in ("steps", "training"):
            keeper.note(Checkpointed(part=part))
        keeper.start()
        keeper.finish()
        assert keeper.finished(30)
        assert taken == [("training", 100)]
        assert keeper.kept("training") == 1
        assert len(self._objects(work)) == 1

    def test_what_is_abandoned_is_not_begun(self, work: Path):
        keeper = CheckpointKeeper(work, LocalStore(work.parent / "store"), lambda *_: True, limit_bytes=100)
        self._write(work, "training", b"x")
        keeper.note(Checkpointed(part="training"))
        keeper.abandon()
        keeper.start()
        assert keeper.finished(30)
        assert self._objects(work) == []
