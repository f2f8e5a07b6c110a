"""What a failure around the engine means for the user: of the worker, its disk or its store."""

from __future__ import annotations

import errno

from modelpress.spec.failure import Failure, FailureKind
from storage.store import StorageError, StoreFull


class NoInput(Exception):
    """The stored bytes of an input are gone or damaged."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the stored bytes of the {what} are gone or damaged; upload it again")


def failure_of(error: Exception) -> Failure:
    """The failure to record when `error` ended an attempt from outside of the engine."""
    if isinstance(error, NoInput):
        return Failure(kind=FailureKind.INTERNAL, message=str(error))
    if isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return Failure(
            kind=FailureKind.OUT_OF_DISK,
            message="a disk of the service is full; retry it when the operator has made room",
        )
    if isinstance(error, StorageError):
        return Failure(
            kind=FailureKind.INTERNAL,
            message="the store of files could not be reached for a long time; retry it when it is back",
        )
    return Failure(
        kind=FailureKind.INTERNAL,
        message=f"the worker itself failed ({type(error).__name__}) and its log has the details; retry it, and report "
        "it when it happens again",
    )
