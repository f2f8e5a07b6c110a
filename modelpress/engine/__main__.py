"""The engine's process: `python -m modelpress.engine FOLDER` does the task in FOLDER/task.json (see spec/task.py).

Exit code 0: done. Exit code 1: failed, and failure.json says why. Any other end leaves no failure.json: the process
was killed.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.events import EventWriter
from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.inspect_model import inspect_model
from modelpress.engine.logs import log_to_stdout
from modelpress.engine.pipeline import compress
from modelpress.engine.results import write_result
from modelpress.spec.failure import CompressionError, Failure, FailureKind
from modelpress.spec.task import (
    EVENTS_FILE,
    FAILURE_FILE,
    INSPECTION_FILE,
    REPORT_FILE,
    TASK,
    TASK_FILE,
    InspectDataset,
    InspectModel,
)

LOG = logging.getLogger("modelpress.engine")


def run(folder: Path) -> None:
    """Do the task of a work folder. Raises whatever keeps it from being done."""
    task = TASK.validate_json((folder / TASK_FILE).read_bytes())
    LOG.info("task: %s", task.kind)
    if isinstance(task, InspectModel):
        write_result(inspect_model(task.model, folder), folder / INSPECTION_FILE)
    elif isinstance(task, InspectDataset):
        write_result(inspect_dataset(folder / task.dataset.path), folder / INSPECTION_FILE)
    else:
        with EventWriter(folder / EVENTS_FILE) as emit:
            compress(task, folder, emit)


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


def main(arguments: list[str]) -> int:
    """Run the engine on one work folder; returns the exit code."""
    log_to_stdout()
    if len(arguments) != 1:
        LOG.error("usage: python -m modelpress.engine FOLDER")
        return 2
    folder = Path(arguments[0]).resolve()
    for name in (FAILURE_FILE, INSPECTION_FILE, REPORT_FILE, EVENTS_FILE):  # of an earlier attempt in the same folder
        (folder / name).unlink(missing_ok=True)
    try:
        run(folder)
    # Whatever went wrong becomes a typed failure: the process that waits for this one reads no tracebacks.
    except Exception as error:
        failure = failure_of(error)
        if failure.kind is FailureKind.INTERNAL:
            LOG.exception("internal error")
        else:
            LOG.error("%s: %s", failure.kind.value, failure.message)
        write_result(failure, folder / FAILURE_FILE)
        return 1
    LOG.info("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
