"""What dead processes left is removed; what living ones hold, or are about to name, stays."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from db.models import Job
from service.stored_bytes import GRACE_SECONDS
from storage.local import LocalStore
from storage.store import StoreUnavailable
from tests.support.deep_folders import DEEP, clear, nest
from tests.support.finished import carry_out, end_before
from tests.support.stores import put
from tests.worker.conftest import Site, wait_for
from worker import housekeeper
from worker.housekeeper import Housekeeper
from worker.starter import Spawner
from worker.work_folder import work_folder
from worker.workplace import Workplace

OLD = (1_000_000_000, 1_000_000_000)


def object_at(store: LocalStore, content: bytes, *, is_old: bool) -> Path:
    path = store.local_path(put(store, content))
    if is_old:
        os.utime(path, OLD)
    return path


def workplace_of(site: Site) -> Workplace:
    return Workplace(site.settings, site.database, site.store, Spawner(()), worker="w")


def test_only_what_is_old_and_nobodys_is_removed(site: Site) -> None:
    named = site.store.local_path(site.store_model().sha256)
    os.utime(named, OLD)
    dead, young = (object_at(site.store, content, is_old=content == b"dead") for content in (b"dead", b"young"))
    interrupted, arriving = (site.home / "store/incoming" / name for name in ("a.part", "b.part"))
    for path in (interrupted, arriving):
        path.write_bytes(b"x")
    os.utime(interrupted, OLD)
    leftover = site.home / "work/job_1-1"
    leftover.mkdir(parents=True)
    with work_folder(site.home / "work", "job_2-1") as running:
        Housekeeper(workplace_of(site)).tidy()
        assert running.is_dir()
    assert [path.exists() for path in (named, dead, young)] == [True, False, True]
    assert [path.exists() for path in (interrupted, arriving)] == [False, True]
    assert not leftover.exists()


def test_the_store_of_another_database_is_left_alone(embedded_site: Site) -> None:
    site = embedded_site
    path = object_at(site.store, b"of the other", is_old=True)
    site.store.set_owner("team_of_the_other")
    with capture_logs() as said:
        Housekeeper(workplace_of(site)).tidy()
    (warning,) = said
    assert warning["event"] == "store_not_own"
    assert "team_of_the_other" in warning["error"]
    assert path.exists()
    assert site.store.take_turn(3600), "the turn is the owner's"


def test_the_store_is_listed_by_one_worker_an_hour(embedded_site: Site) -> None:
    """Each machine's own leftovers are cleared by every worker all the same."""
    site = embedded_site
    Housekeeper(workplace_of(site)).tidy()
    dead = object_at(site.store, b"dead", is_old=True)
    (site.home / "work/job_1-1").mkdir(parents=True)
    Housekeeper(workplace_of(site)).tidy()
    assert dead.exists()
    assert not (site.home / "work/job_1-1").exists()
    os.utime(site.home / "store/turn", OLD)
    Housekeeper(workplace_of(site)).tidy()
    assert not dead.exists()


def test_a_slow_job_names_its_bytes_in_time(embedded_site: Site) -> None:
    """Whatever an earlier attempt left: bytes that are put again are young."""
    site = embedded_site
    path = object_at(site.store, b"result", is_old=True)
    put(site.store, b"result")
    Housekeeper(workplace_of(site)).tidy()
    assert path.exists()
    os.utime(path, (path.stat().st_mtime - GRACE_SECONDS - 60,) * 2)
    os.utime(site.home / "store/turn", OLD)
    Housekeeper(workplace_of(site)).tidy()
    assert not path.exists()


def test_it_goes_on_after_a_store_that_was_away(embedded_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Semaphore(0)

    class Away(LocalStore):
        def sweep(self, older_than_seconds: float) -> int:
            tried.release()
            raise StoreUnavailable("the store cannot be used: no route to it")

    monkeypatch.setattr(housekeeper, "INTERVAL_SECONDS", 0.01)
    site = embedded_site
    workplace = Workplace(site.settings, site.database, Away(site.home / "store"), Spawner(()), worker="w")
    keeper = Housekeeper(workplace)
    keeper.start()
    assert tried.acquire(timeout=30)
    assert tried.acquire(timeout=30)
    workplace.stop.set()
    keeper.join()


PARTS = ("_clear_leftovers", "_sweep_uploads", "_delete_old_jobs", "_drop_step_results", "_sweep_store")


@pytest.mark.parametrize("broken", PARTS)
@pytest.mark.parametrize(
    "error", [RecursionError("too deep"), StoreUnavailable("no route"), OperationalError("", {}, Exception())]
)
def test_a_part_that_fails_does_not_keep_the_others_from_being_done(
    embedded_site: Site, monkeypatch: pytest.MonkeyPatch, broken: str, error: Exception
) -> None:
    done = []
    for part in PARTS:

        def do(_keeper: Housekeeper, part: str = part) -> None:
            done.append(part)
            if part == broken:
                raise error

        monkeypatch.setattr(Housekeeper, part, do)
    with capture_logs() as said:
        Housekeeper(workplace_of(embedded_site)).tidy()
    assert done == list(PARTS)
    assert len(said) == 1


@pytest.mark.parametrize("seconds", [None, 7200.0])
def test_old_jobs_are_deleted_where_it_is_asked_for(site: Site, seconds: float | None) -> None:
    files = {}
    for name, age in (("old", 7300), ("young", 7100)):
        job = site.tenant.submit(site.store_model())
        files[job.id] = put(site.store, name.encode())
        carry_out(site.tenant, job, {name: files[job.id]})
        end_before(site.tenant, job, age)
    settings = site.settings.model_copy(update={"job_retention_seconds": seconds})
    Housekeeper(replace(workplace_of(site), settings=settings)).tidy()
    with site.database.session(read_only=True) as session:
        left = set(session.scalars(select(Job.id)))
    assert left == (set(files) if seconds is None else {job.id})
    assert {job for job, sha256 in files.items() if site.store.exists(sha256)} == left


def test_leftovers_however_deep_do_not_keep_the_store_from_being_swept(embedded_site: Site) -> None:
    site = embedded_site
    dead = object_at(site.store, b"dead", is_old=True)
    work = site.home / "work"
    (work / "job_1-1").mkdir(parents=True)
    nest(work / "job_1-1", DEEP)
    try:
        Housekeeper(workplace_of(site)).tidy()
        assert not dead.exists()
        assert list(work.iterdir()) == []
    finally:
        clear(work)


def test_every_worker_tidies_up(embedded_site: Site) -> None:
    site = embedded_site
    dead = object_at(site.store, b"dead", is_old=True)
    with site.start_worker("inspections"):
        wait_for(lambda: not dead.exists(), "the bytes to be dropped", explain=site.log)
