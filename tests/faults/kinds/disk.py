"""The disk of the store is full: a real file system of a few MiB, which needs no root but a user namespace."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from sqlalchemy import func, select

from db.models import Artifact, Job, Model
from modelpress.spec.failure import FailureKind
from modelpress.spec.state import JobState
from tests.faults.back_ends import BackEnd
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import Load
from tests.faults.site import Site
from tests.support.patience import comes_true
from tests.support.uploads import safetensors_file

DISK_BYTES = 24 << 20
# An upload is larger than the room that is left, and each of a job's files, too.
UPLOAD_FLOATS = 1 << 19
ROOM_BYTES = 600 << 10
JOB_SECONDS = 60.0

# The file system is there as long as this process is: it says so, and waits for the end of its input.
HOLDER = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && read -r _'


class FillDisk(Fault):
    """No room is left while a model is uploaded and while a job's files are stored.

    That of the work folders, while the engine writes, is watched by a limit: see tests/worker/test_jobs.py.
    """

    name = "fill disk"
    holds = "typed failure, nothing half-visible, works again when there is room"
    moments = 10
    few = 0
    back_ends = ("embedded", "production")
    is_apart = True
    outstanding = 0

    @contextmanager
    def around(self, back_end: BackEnd, home: Path) -> Iterator[BackEnd]:
        """Mount the disk, and have the store on it."""
        place = home / "disk"
        place.mkdir()
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", HOLDER, "sh", str(DISK_BYTES)]
        with subprocess.Popen([*command, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"mounted\n", "this machine lets nobody but root mount a file system"
                # Seen by whoever runs as the same user.
                self._disk = Path(f"/proc/{holder.pid}/root{place}")
                yield replace(back_end, settings={**back_end.settings, "store_url": f"file://{self._disk}/store"})
            finally:
                holder.communicate(b"\n")

    def strike(self, site: Site, load: Load, draw: Random) -> Struck:
        """Fill it, upload a model and hand in a job; make room, and do both again."""
        at, wrong = clock(), []
        ballast = self._disk / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._room() - draw.randrange(1 << 12, ROOM_BYTES))
        models, seed = self._models(site), draw.randrange(1 << 30)
        answer = self._upload(site, seed)
        if answer != (507, "store-full") or self._models(site) != models:
            wrong.append(f"an upload to a full disk was answered with {answer}, and made a row: {self._models(site)}")
        # No job of the ledger: this one shall fail.
        state, failure = self._job(site, load)
        if state != JobState.FAILED or failure != FailureKind.OUT_OF_DISK:
            wrong.append(f"a job whose files have no room is {state}: {failure}")
        if left := [path.name for path in (self._disk / "store" / "incoming").iterdir()]:
            wrong.append(f"half a file is left: {left}")
        ballast.unlink()
        answer = self._upload(site, seed)
        if answer[0] not in (200, 201, 202):
            wrong.append(f"an upload was answered with {answer} when there was room again")
        state, failure = self._job(site, load)
        if state != JobState.SUCCEEDED:
            wrong.append(f"a job is {state} when there is room again: {failure}")
        return Struck(at, wrong=tuple(wrong))

    def afterwards(self, site: Site, load: Load) -> list[str]:
        """Every file that a row names must be there, whole."""
        with site.database.session(read_only=True) as session:
            named = session.execute(select(Artifact.sha256, Artifact.size)).all()
        objects = {path.name: path.stat().st_size for path in (self._disk / "store" / "objects").glob("*/*")}
        return [f"{sha256} is named and is not there whole" for sha256, size in named if objects.get(sha256) != size]

    def _room(self) -> int:
        found = os.statvfs(self._disk)
        return found.f_bavail * found.f_frsize

    def _models(self, site: Site) -> int:
        with site.database.session(read_only=True) as session:
            return session.scalar(select(func.count()).select_from(Model)) or 0

    def _upload(self, site: Site, seed: int) -> tuple[int, str]:
        """Status and kind of what is answered."""
        response = site.client().post(
            "/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file(seed, UPLOAD_FLOATS)
        )
        return response.status_code, str(response.json().get("type", "")).rsplit("/", 1)[-1]

    def _job(self, site: Site, load: Load) -> tuple[JobState, FailureKind | None]:
        """What becomes of a job."""
        spec = {**load.spec("one step"), "name": f"disk {uuid.uuid4()}"}
        job_id = site.client().post("/v1/jobs", json=spec).raise_for_status().json()["id"]
        comes_true(lambda: site.unfinished() == 0, JOB_SECONDS)
        with site.database.session(read_only=True) as session:
            row = session.get_one(Job, job_id)
            return row.state, row.failure.kind if row.failure else None
