"""How a process of the engine ends when its task cannot be done: with a typed failure in the work folder."""

from __future__ import annotations

import logging
from pathlib import Path

from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.results import write_result
from modelpress.spec.failure import CompressionError, Failure, FailureKind
from modelpress.spec.task import FAILURE_FILE

LOG = logging.getLogger(__name__)


def failure_of(error: Exception) -> Failure:
    """The failure to record for an error that ended the task."""
    if isinstance(error, CompressionError):
        return error.failure
    typed = exhaustion(error, "doing the task")
    if typed is not None:
        return typed.failure
    return Failure(
        kind=FailureKind.INTERNAL,
        message=f"the engine met an error of its own ({type(error).__name__}); send the job's log, which has the "
        "details, to the operator of this service",
    )


def record_failure(error: Exception, folder: Path) -> None:
    """Log an error that ended the task, and leave its failure in the folder, unless one is there.

    What is there is the reason: a process that fails because another one did comes later.
    """
    failure = failure_of(error)
    if failure.kind is FailureKind.INTERNAL:
        LOG.error("internal error", exc_info=error)
    else:
        LOG.error("%s: %s", failure.kind.value, failure.message)
    if not (folder / FAILURE_FILE).exists():
        write_result(failure, folder / FAILURE_FILE)
