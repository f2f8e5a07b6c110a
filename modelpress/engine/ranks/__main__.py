"""One of the processes of a job: `python -m modelpress.engine.ranks FOLDER MEETING`, started by `launch`.

Rank 0 leads: it does the task in FOLDER as a single process would, and alone writes there. The others follow: they
wait for its trainings. MEETING is a file that is not there yet.

Exit code 0: done. Exit code 1: failed; failure.json says why, or another process was lost.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

import torch

from modelpress.engine.device import choose_device
from modelpress.engine.ending import record_failure
from modelpress.engine.events import EventWriter
from modelpress.engine.logs import log_to_stdout
from modelpress.engine.pipeline import compress
from modelpress.engine.ranks.follower import follow
from modelpress.engine.ranks.group import RankLost, end_process, joined
from modelpress.engine.ranks.leader import Leader
from modelpress.spec.task import EVENTS_FILE, TASK, TASK_FILE, Compress

LOG = logging.getLogger("modelpress.engine.ranks")

_PR_SET_PDEATHSIG = 1


def run(folder: Path, meeting: Path, rank: int, size: int) -> None:
    """Do this rank's part of the task. Raises whatever keeps it from being done."""
    task = TASK.validate_json((folder / TASK_FILE).read_bytes())
    if not isinstance(task, Compress):
        raise TypeError(f"a task of kind {task.kind!r} is not for several processes")
    device = choose_device(task.device)
    if device.type == "cuda":
        device = torch.device("cuda", rank)
    with joined(meeting, rank, size, device) as group:
        if rank > 0:
            follow(group)
            return
        leader = Leader(group)
        with EventWriter(folder / EVENTS_FILE) as emit:
            compress(task, folder, emit, leader)
        leader.dismiss()


def main(arguments: list[str]) -> int:
    """Run one rank, which the launcher names in the environment; returns the exit code."""
    _die_with_launcher()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    log_to_stdout()
    if rank > 0:
        logging.getLogger().setLevel(logging.WARNING)  # the log is the leader's
    folder, meeting = (Path(argument).resolve() for argument in arguments)
    try:
        run(folder, meeting, rank, size)
    except RankLost as error:
        LOG.warning("process %d of %d stops: %s", rank, size, error)
        return 1
    # As in the engine's own process: the launcher reads no tracebacks.
    except Exception as error:  # noqa: BLE001
        record_failure(error, folder)
        return 1
    return 0


def _die_with_launcher() -> None:
    """Its sessions are its own, so that whoever kills the launcher's group does not reach it (Linux's prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
