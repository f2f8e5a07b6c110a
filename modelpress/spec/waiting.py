"""Why a job waits."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from modelpress.spec.config import Resource


class WaitingReason(StrEnum):
    """The stable names of what a job can wait for."""

    TURN = "turn"
    NO_WORKER = "no_worker"
    NO_FITTING_WORKER = "no_fitting_worker"


class Waiting(Resource):
    """What a job waits for."""

    reason: WaitingReason = Field(
        description="`turn`: other jobs are before it, or it is about to be taken; `no_worker`: no worker is alive; "
        "`no_fitting_worker`: none that is alive has what it needs."
    )
    message: str = Field(description="The same in words, and what to do.")
