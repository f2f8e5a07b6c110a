"""Server-sent events of a job: read line by line, resumed after the last one when the connection breaks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import httpx

from modelpress.client.connection import RETRY_DELAYS, Connection, Request
from modelpress.client.errors import ConnectionFailed
from modelpress.spec.event import StateChanged
from modelpress.spec.resources import Job, JobEvent
from modelpress.spec.state import FINAL_STATES, JobState

# The service sends a comment every few seconds while there is nothing to say.
SILENCE = 60.0


def job_events(connection: Connection, job_id: str, after: int | None = None) -> Iterator[JobEvent]:
    """Events of a job as they happen, from the first (or the one after `after`) to the one that ends the job.

    A job that failed or was cancelled may be tried again: then its story goes on behind that event.

    Raises ConnectionFailed when the stream breaks again and again without an event in between.
    """
    failures = 0
    is_over = False
    while True:
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        reason = "it ended too early"
        try:
            route = f"/v1/jobs/{job_id}/events"
            with connection.stream(Request("GET", route, headers=headers, read_timeout=SILENCE)) as response:
                event = None
                for data in _messages(response.iter_raw()):
                    event = JobEvent.model_validate_json(data)
                    after = event.id
                    failures, is_over = 0, False
                    yield event
                    if _state_in(event) == JobState.SUCCEEDED:  # nothing can follow
                        return
            # The service ended it: behind the last event, or because it is being stopped itself.
            if event is None:
                if is_over:  # and had nothing more since that was known
                    return
                is_over = _state_of(connection, job_id) in FINAL_STATES
                if is_over:
                    continue
            elif _state_in(event) in FINAL_STATES:
                return
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
        if failures == len(RETRY_DELAYS):
            raise ConnectionFailed(f"the event stream of {job_id} broke ({reason}); ask again after event {after}")
        time.sleep(RETRY_DELAYS[failures])
        failures += 1


def _state_in(event: JobEvent) -> str | None:
    """The state that the job went over to with this event."""
    return event.event.state if isinstance(event.event, StateChanged) else None


def _state_of(connection: Connection, job_id: str) -> str:
    """The state that the job is in now."""
    return Job.model_validate_json(connection.send(Request("GET", f"/v1/jobs/{job_id}")).content).state


def _messages(pieces: Iterable[bytes]) -> Iterator[str]:
    """The `data` of each message (HTML standard, section 9.2.6, as far as a job's events need it)."""
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    # Not str.splitlines: a message may hold U+2028 and the like, which do not end a line here.
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode()
