"""The states of a job and of an upload, and the only transitions between them.

                 +------------------(f) retry-------------------+
                 v                                              |
(a) create -> queued --(b) claim--> running --(c) finish--> succeeded | failed
               ^  |                  |  |
               |  |(e) cancel        |  +--(d) cancel--> cancelling --(h) stopped--> cancelled
               |  +--> cancelled     |
               |  |(i) wait limit    |
               |  +--> failed        |
               |  |(j) same work     |
               |  +--> succeeded     |
               +--(g) released, or lease ran out

a  the API accepts the job                     e  cancelled while it waits: at once
b  a worker takes it, attempt + 1              f  failed or cancelled -> queued, by the user
c  the worker that holds the attempt finishes  g  the worker stops, or it or its engine is lost; fails after N lost ones
d  the user asks; the worker stops the child   h  the worker has stopped it, or its lease ran out
i  it waited longer than its limit; fails as timeout
j  the team has a job that was the same and succeeded: it is given that one's result, in the moment that it is accepted
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. The row in the database is the only truth."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when no worker will touch the job again unless the user retries it."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
UNFINISHED_STATES = frozenset(JobState) - FINAL_STATES

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.CANCELLING, JobState.SUCCEEDED, JobState.FAILED}),
    # The child may finish in the moment between the request to cancel and its end: cancelled all the same.
    JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}


class UploadState(StrEnum):
    """Where an uploaded model or data set stands."""

    INSPECTING = "inspecting"
    READY = "ready"
    REJECTED = "rejected"
