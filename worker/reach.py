"""What an engine may reach: its interpreter and libraries, its work folder, and where it needs them the GPUs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import modelpress
from modelpress.spec.steps import step_training
from modelpress.spec.task import Compress
from service.jail.landlock import Reach
from service.jail.walls import Walls
from service.settings import Settings

# What the dynamic linker, the C library and PyTorch look at. Not all of /etc, where there may be keys, and of /run and
# /var nothing.
SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release"),
    # hashlib loads OpenSSL, which reads its settings; ranks look up the name `localhost`
    *("/etc/ssl/openssl.cnf", "/etc/hosts"),
    # What belongs to processes outside of the jail in it is shut by Landlock, as ptrace would be.
    "/proc",
    *("/sys/devices", "/sys/fs/cgroup", "/sys/bus", "/sys/class", "/sys/module"),
)
PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# Between the processes of one job, NCCL shares memory through files.
SHARED_MEMORY = "/dev/shm"  # noqa: S108


def walls_for(folder: Path, task: Compress | None, settings: Settings) -> Walls | None:
    """The walls for a task in `folder`, None for an inspection; no walls where the settings say so.

    Only a job whose trainings several processes share has sockets and shared memory, and only jobs have the GPUs.
    """
    if settings.jail == "off":
        return None
    is_shared = task is not None and may_be_shared(task, count_gpus())
    return Walls(
        Reach(
            readable=readable_paths(settings),
            listable=(str(_package().parent),),  # a checkout: its names are looked through for the package
            writable=(str(folder), SHARED_MEMORY) if is_shared else (str(folder),),
            devices=PLAIN_DEVICES if task is None or task.device == "cpu" else (*PLAIN_DEVICES, *_gpu_devices()),
        ),
        sockets=is_shared,
    )


def readable_paths(settings: Settings) -> tuple[str, ...]:
    """Files and folders that every engine may read and execute, its own work folder apart."""
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, str(_package()))
    named = (word for word in settings.engine_command if Path(word).is_absolute() and Path(word).is_file())
    return (*SYSTEM, *map(os.path.realpath, prefixes), *named, *map(str, settings.jail_readable))


def exposed(settings: Settings) -> list[str]:
    """Readable folders that the data folder lies in, so that no wall stands before it."""
    home = settings.home.resolve()
    return [path for path in readable_paths(settings) if home.is_relative_to(Path(path).resolve())]


def may_be_shared(task: Compress, gpus: int) -> bool:
    """Whether several processes may train together: asked for, or not forbidden where there are several GPUs."""
    if all(step_training(step) is None for step in task.recipe.steps):
        return False
    return gpus > 1 and task.device != "cpu" if task.processes is None else task.processes > 1


def count_gpus() -> int:
    """NVIDIA's GPUs on this machine."""
    return len([path for path in _gpu_devices() if re.fullmatch(r"/dev/nvidia\d+", path)])


def _gpu_devices() -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(Path("/dev").glob("nvidia*")))


def _package() -> Path:
    return Path(modelpress.__file__).resolve().parent
