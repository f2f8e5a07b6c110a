"""The engine's process: `python -m modelpress.engine FOLDER` does the task in FOLDER/task.json (see spec/task.py).

Exit code 0: done. Exit code 1: failed, and failure.json says why. Any other end leaves no failure.json: the process
was killed, or (137) one of those that share its trainings.

A job with trainings that several GPUs share is done by as many processes, which this one starts and waits for
(ranks/launch.py).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from modelpress.engine import reload
from modelpress.engine.data.inspect_dataset import inspect_dataset
from modelpress.engine.ending import record_failure
from modelpress.engine.events import EventWriter
from modelpress.engine.fresh import fresh_processes
from modelpress.engine.inspect_model import inspect_upload
from modelpress.engine.logs import log_to_stdout
from modelpress.engine.pipeline import compress
from modelpress.engine.ranks.launch import RanksFailed, count_processes, launch
from modelpress.engine.results import write_result
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
        write_result(inspect_upload(task.model, folder), folder / INSPECTION_FILE)
    elif isinstance(task, InspectDataset):
        write_result(inspect_dataset(folder / task.dataset.path), folder / INSPECTION_FILE)
    elif (processes := count_processes(task)) > 1:
        launch(folder, processes)
    else:
        fresh_processes(reload.__name__).fork_here(reload.main)  # before anything is opened or computed
        with EventWriter(folder / EVENTS_FILE) as emit:
            compress(task, folder, emit)


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
    except RanksFailed as failed:  # told and recorded by the one that failed
        return failed.exit_code
    # Whatever went wrong becomes a typed failure: the process that waits for this one reads no tracebacks.
    except Exception as error:  # noqa: BLE001
        record_failure(error, folder)
        return 1
    LOG.info("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
