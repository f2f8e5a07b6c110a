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


class RanksFailed(Exception):
    """A process of the job failed; failure.json says why."""


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
                write_result(failure_of_ends(codes, processes), folder / FAILURE_FILE)
            raise RanksFailed(str(codes)) from None
        except SignalException as stop:
            LOG.info("told to stop")
            raise SystemExit(128 + int(stop.sigval)) from None


def failure_of_ends(codes: dict[int, int], processes: int) -> Failure:
    """What the ends of processes say that recorded no failure; `codes` by rank, negative for a signal."""
    # The launcher terminates the others, and who exits with 1 without a word has only lost one of them.
    rank, code = min(codes.items(), key=lambda end: (end[1] == -signal.SIGTERM, end[1] == 1))
    which = f"process {rank} of {processes}"
    if code == -signal.SIGKILL:
        return Failure(
            kind=FailureKind.OUT_OF_MEMORY,
            message=f"{which} was killed from outside, most likely because the machine's memory ran out; use fewer "
            "processes, a smaller batch size, model or data set, or a machine with more memory",
        )
    return Failure(
        kind=FailureKind.INTERNAL,
        message=f"{which} ended with code {code} and gave no reason; the log has its last words. Retry it, and report "
        "it when it happens again",
    )
