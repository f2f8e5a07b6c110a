"""What this worker has for a job: said in its row, so that jobs are left to workers that fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import structlog

from modelpress.spec.cores import available_cores
from modelpress.spec.needs import Capacity
from service.settings import Settings

DRIVER = Path("/dev/nvidiactl")  # there wherever NVIDIA's driver works, in containers too
PROBE = (sys.executable, "-m", "modelpress.engine.gpus")
PROBE_SECONDS = 120.0  # torch and CUDA start slowly on a busy machine

log = structlog.stdlib.get_logger(__name__)


def find_capacity(settings: Settings) -> Capacity:
    """What a job may use here, by the settings and the machine.

    With `device: cuda` and no GPU the worker says that it computes on CUDA all the same, with no memory: its jobs fail
    with a word about that, and those that need GPU memory go elsewhere.
    """
    gpus = [] if settings.device == "cpu" else _gpu_memory_bytes(settings)
    cores = available_cores()
    return Capacity(
        device="cuda" if gpus or settings.device == "cuda" else "cpu",
        cores=cores if settings.threads is None else min(cores, settings.threads),
        memory_bytes=settings.memory_limit_bytes,
        gpu_memory_bytes=min(gpus, default=0),
        gpus=max(1, len(gpus)),
    )


def _gpu_memory_bytes(settings: Settings) -> list[int]:
    if not DRIVER.exists():
        return []
    environment = dict(os.environ)
    if settings.cuda_visible_devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = settings.cuda_visible_devices
    try:
        probe = subprocess.run(  # noqa: S603  # a command of ours
            PROBE, env=environment, capture_output=True, timeout=PROBE_SECONDS, check=True
        )
        gpus = json.loads(probe.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.error("gpus_unknown", error=repr(error), advice="this worker takes no job that needs a GPU")
        return []
    return [int(size) for size in gpus]
