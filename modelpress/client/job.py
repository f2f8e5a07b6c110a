"""One job, as its owner sees it: watch it, wait for it, fetch what it made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from modelpress.client.connection import Connection, Request
from modelpress.client.download import fetch_artifact, write_whole
from modelpress.client.errors import ApiError, JobCancelled, JobFailed, JobUnfinished, ModelPressError, WaitTimedOut
from modelpress.client.event_stream import job_events
from modelpress.spec.event import Progress
from modelpress.spec.report import Report
from modelpress.spec.resources import Artifact, Job, JobEvent
from modelpress.spec.state import JobState

# The service holds the answer back this long while nothing changes.
LONG_POLL_SECONDS = 30
# Beside the long poll itself: what a slow answer may take.
ANSWER_MARGIN = 30.0
REPORT_FILE = "report.json"
LOG_FILE = "log.txt"

_ARTIFACTS = TypeAdapter(list[Artifact])


class JobHandle:
    """A job of the service. `resource` is what was last heard of it; `refresh` and `wait` bring it up to date."""

    def __init__(self, connection: Connection, resource: Job, tag: str | None = None) -> None:
        self._connection = connection
        self._tag = tag
        self.resource = resource

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r}, {self.state.value})"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.resource.id

    @property
    def state(self) -> JobState:
        """The state when it was last heard of."""
        return self.resource.state

    def refresh(self) -> Job:
        """Ask the service how the job stands."""
        return self._poll(0)

    def wait(self, timeout: float | None = None, on_progress: Callable[[Progress], None] | None = None) -> Job:
        """Wait until the job has succeeded, and return it.

        `on_progress` is called with each new progress that is seen. Raises JobFailed, JobCancelled, and WaitTimedOut
        after `timeout` seconds (None: no limit); the job itself goes on then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        job, shown = self.refresh(), None
        while True:
            if on_progress is not None and job.progress is not None and job.progress != shown:
                on_progress(job.progress)
                shown = job.progress
            if job.state.final:
                break
            left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, deadline - time.monotonic())
            if left <= 0:
                raise WaitTimedOut(f"{self.id} is still {job.state.value} after {timeout:g} s; it goes on")
            job = self._poll(max(1, round(left)))
        if job.state is JobState.FAILED:
            raise JobFailed(job)
        if job.state is JobState.CANCELLED:
            raise JobCancelled(job)
        return job

    def events(self, after: int | None = None) -> Iterator[JobEvent]:
        """Events as they happen, from the first (or the one after `after`) to the one that ends the job."""
        return job_events(self._connection, self.id, after)

    def cancel(self) -> Job:
        """Ask for the job's end; it is `cancelling` until its worker has stopped it."""
        return self._command("cancel", repeatable=True)

    def retry(self) -> Job:
        """Put a failed or cancelled job back into the queue."""
        # Not repeated on a lost connection: a job that waits again is refused a second time.
        return self._command("retry", repeatable=False)

    def log(self) -> str:
        """What the work printed so far."""
        return self._connection.send(Request("GET", f"{self._route}/log")).text

    @property
    def report(self) -> Report:
        """The report. Raises JobUnfinished while there is none."""
        return Report.model_validate_json(self._report())

    def artifacts(self) -> list[Artifact]:
        """The files that can be downloaded."""
        return _ARTIFACTS.validate_json(self._connection.send(Request("GET", f"{self._route}/artifacts")).content)

    def download(
        self, folder: str | Path, on_progress: Callable[[Artifact, int, int], None] | None = None
    ) -> list[Path]:
        """Fetch every artifact, `report.json` and `log.txt` into `folder`, which is made, and return their paths.

        Each artifact is checked against its SHA-256, goes on where a broken download ended, and appears under its
        name only when it is whole; one that is already there is not fetched again. `on_progress` is told the
        artifact, its bytes so far and in all. Raises JobUnfinished before the job's end, IntegrityError, and
        ModelPressError when nothing can be written there.
        """
        if not self.state.final and not self.refresh().state.final:
            raise JobUnfinished(f"{self.id} is {self.state.value}; wait for its end before downloading")
        folder = Path(folder)
        paths = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for artifact in self.artifacts():
                if artifact.kind != "log":
                    told = None if on_progress is None else partial(on_progress, artifact)
                    paths.append(fetch_artifact(self._connection, artifact, folder, told))
            # A job that failed early has no report.
            with suppress(JobUnfinished):
                paths.append(write_whole(folder / REPORT_FILE, self._report()))
            paths.append(write_whole(folder / LOG_FILE, self.log().encode()))
        except OSError as error:
            raise ModelPressError(f"cannot write into {folder}: {error.strerror}") from error
        return paths

    @property
    def _route(self) -> str:
        return f"/v1/jobs/{self.id}"

    def _report(self) -> bytes:
        try:
            return self._connection.send(Request("GET", f"{self._route}/report")).content
        except ApiError as error:
            if error.status == 409:
                raise JobUnfinished(str(error)) from error
            raise

    def _poll(self, seconds: int) -> Job:
        request = Request(
            "GET",
            self._route,
            params={"wait": seconds} if seconds else {},
            headers={"If-None-Match": self._tag} if self._tag else {},
            read_timeout=seconds + ANSWER_MARGIN,
        )
        response = self._connection.send(request)
        if response.status_code != 304:
            self.resource = Job.model_validate_json(response.content)
            self._tag = response.headers.get("ETag")
        return self.resource

    def _command(self, verb: str, *, repeatable: bool) -> Job:
        response = self._connection.send(Request("POST", f"{self._route}/{verb}", repeatable=repeatable))
        self.resource = Job.model_validate_json(response.content)
        self._tag = None
        return self.resource
