"""How many processes a job gets, and their start and end, by torchrun's launcher.

The launcher ends all processes when one fails, when it is told to stop, and each of them dies with it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from modelpress.engine.device import choose_device
from modelpress.engine.results import write_result
from modelpress.spec.failure import Failure, FailureKind, IncompatibleSpec
from modelpress.spec.steps import step_training
from modelpress.spec.task import FAILURE_FILE, Compress

LOG = logging.getLogger(__name__)

# Below so many images each, GPUs wait for one another more than they compute, and batch norms average over too few.
_LEAST_IMAGES_PER_GPU = 32
# Between asking the processes to end and killing them.
_STOP_SECONDS = 3


KILLED = 128 + signal.SIGKILL
"""Exit code of the engine when one of the processes was killed from outside: as if it had been killed itself."""


class RanksFailed(Exception):
    """A process of the job failed; failure.json says why. It says nothing of one that was killed from outside."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def count_processes(task: Compress) -> int:
    """Processes that share the trainings of a task.

    As many as it asks for, else one per GPU as long as each gets 32 images of the largest batch. Raises
    IncompatibleSpec when it asks for more than there are GPUs.
    """
    trainings = [training for step in task.recipe.steps if (training := step_training(step)) is not None]
    if not trainings:
        return 1
    gpus = torch.cuda.device_count() if choose_device(task.device).type == "cuda" else 0
    if task.processes is None:
        largest = max(training.batch_size for training in trainings)
        return max(1, min(gpus, largest // _LEAST_IMAGES_PER_GPU))
    if 0 < gpus < task.processes:
        raise IncompatibleSpec(
            f"{task.processes} processes were asked for, and torch sees {gpus} GPU{'s' if gpus > 1 else ''} here: "
            f"each needs one of its own; ask for {gpus} at most"
        )
    return task.processes


def launch(folder: Path, processes: int) -> None:
    """Have so many processes do the task of a work folder. Raises RanksFailed."""
    LOG.info("%d processes share the trainings", processes)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # we tell ourselves how they ended
    # Else the launcher opens a port, to whoever can reach this machine; our processes meet at a file.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with TemporaryDirectory(prefix="ranks-") as name:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint=str(Path(name) / "launcher"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=name),
            shutdown_timeout=_STOP_SECONDS,
        )
        command = ["-m", "modelpress.engine.ranks", str(folder), str(Path(name) / "meeting")]
        try:
            elastic_launch(config, sys.executable)(*command)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            if not (folder / FAILURE_FILE).exists():
                rank, code = first_to_end(codes)
                if code == -signal.SIGKILL:  # whoever waits for the engine knows whether to try again
                    LOG.error("process %d of %d was killed from outside", rank, processes)
                    raise RanksFailed(KILLED) from None
                write_result(failure_of_end(rank, code, processes), folder / FAILURE_FILE)
            raise RanksFailed(1) from None
        except SignalException as stop:
            LOG.info("told to stop")
            raise SystemExit(128 + int(stop.sigval)) from None


def first_to_end(codes: dict[int, int]) -> tuple[int, int]:
    """The process whose end was that of the others, and how it ended; `codes` by rank, negative for a signal."""
    # The launcher terminates the others, and who exits with 1 without a word has only lost one of them.
    return min(codes.items(), key=lambda end: (end[1] == -signal.SIGTERM, end[1] == 1))


def failure_of_end(rank: int, code: int, processes: int) -> Failure:
    """What the end of a process says that recorded no failure."""
    return Failure(
        kind=FailureKind.INTERNAL,
        message=f"process {rank} of {processes} ended with code {code} and gave no reason; the log has its last words. "
        "Retry it, and report it when it happens again",
    )
