"""Which way this worker's engines start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from service.settings import ENGINE_COMMAND, Settings
from worker.child import engine_environment
from worker.starter import Spawner, Starter
from worker.zygote import Forker

ENGINE_MODULE = "modelpress.engine.__main__"


def choose_starter(settings: Settings) -> Starter:
    """From a zygote where the engine is our own and may be kept loaded; else by the command of the settings.

    Zygotes are for Linux alone: what elsewhere happens to a library in a fork, nobody promises.
    """
    if sys.platform != "linux" or not settings.keep_engine_loaded or settings.engine_command != ENGINE_COMMAND:
        return Spawner(settings.engine_command)
    # It has no folder yet: what would write at home, or in a temporary folder, shall fail.
    environment = engine_environment(
        Path(os.devnull), threads=settings.threads, cuda_visible_devices=settings.cuda_visible_devices
    )
    return Forker(ENGINE_MODULE, environment)
