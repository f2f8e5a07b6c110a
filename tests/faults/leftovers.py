"""What must not be left of a service that has come to rest: processes, scratch, bytes that nothing names."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sqlalchemy import select

from db.models import Artifact, Checkpoint, Dataset, Model
from service.stored_bytes import GRACE_SECONDS
from tests.faults.site import Site
from tests.support.patience import comes_true
from tests.support.processes import engine_processes

TIDY_SECONDS = 30.0


def leftovers(site: Site) -> list[str]:
    """What is left, in words.

    Time is the only thing that is played: what is younger than the grace is left alone, so everything is made older,
    and a worker is started anew, as it tidies up at its start.
    """
    found = [f"a process is left: {command}" for command in engine_processes(site.home)]
    _age(site.home / "store")
    worker = site.workers[0]
    worker.tell_to_end()
    worker.wait()
    worker.start()
    # One look at a time: a store asks the time by a file of a moment, so that a second look may see one.
    if not comes_true(lambda: not _left(site), TIDY_SECONDS):
        found += _left(site)
    with site.database.session(read_only=True) as session:
        found += [f"a checkpoint is left: {one.part} of {one.job_id}" for one in session.scalars(select(Checkpoint))]
    return found


def _left(site: Site) -> list[str]:
    return [
        *(f"scratch is left: {path}" for path in _scratch(site)),
        *(f"bytes are left that no row names: {sha256}" for sha256 in _unnamed(site)),
    ]


def _scratch(site: Site) -> list[str]:
    places = (site.home / "work", site.home / "store" / "incoming", site.home / "spool", site.home / "tmp")
    return [str(path.relative_to(site.home)) for place in places if place.exists() for path in place.iterdir()]


def _unnamed(site: Site) -> set[str]:
    with site.database.session(read_only=True) as session:
        named = {
            sha256
            for table in (Artifact, Checkpoint, Dataset, Model)
            for sha256 in session.scalars(select(table.sha256))
        }
    return {path.name for path in (site.home / "store" / "objects").glob("*/*")} - named


def _age(folder: Path) -> None:
    """Make every file as old as if nobody had come by for more than the grace."""
    then = time.time() - 2 * GRACE_SECONDS
    for path in [*folder.glob("incoming/*"), *folder.glob("objects/*/*"), folder / "turn"]:
        if path.exists():
            os.utime(path, (then, then))
