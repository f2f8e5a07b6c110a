"""Which way this worker's engines start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from service.jail import bubblewrap
from service.jail.walls import active_walls
from service.settings import ENGINE_COMMAND, Settings
from worker.child import engine_environment
from worker.starter import Spawner, Starter
from worker.zygote import Forker

ENGINE_MODULE = "modelpress.engine.__main__"


def choose_starter(settings: Settings) -> Starter:
    """From a zygote where the engine is our own and may be kept loaded; else by the command of the settings. Both in
    Bubblewrap where that works and the settings leave the jail on.

    Zygotes are for Linux alone: what elsewhere happens to a library in a fork, nobody promises. Raises OSError where
    the folder for work cannot be made.
    """
    is_forked = settings.keep_engine_loaded and settings.engine_command == ENGINE_COMMAND and _has_pidfds()
    inside: tuple[str, ...] = ()
    if active_walls(settings.jail).bubblewrap:
        settings.work_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A zygote ends by itself, and outlives the thread that first had need of it.
        inside = bubblewrap.inside(settings.work_folder, ends_with_parent=not is_forked)
    if not is_forked:
        return Spawner(settings.engine_command, inside)
    # It has no folder yet: what would write at home, or in a temporary folder, shall fail.
    environment = engine_environment(
        Path(os.devnull), threads=settings.threads, cuda_visible_devices=settings.cuda_visible_devices
    )
    return Forker(ENGINE_MODULE, environment, inside)


def _has_pidfds() -> bool:
    """Whether a process can be held by a descriptor: on Linux since 5.3, where Python was built for it.

    Pythons that are built to run on older systems, those of uv and conda say, do without.
    """
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
