"""Bubblewrap around engines, beside the kernel's walls, where it is installed and this process may use it.

Landlock leaves modes, owners and times of files to whoever owns them. In here nothing can be changed but the work
folders and devices, and the machine's name and System V's shared memory are others (bwrap(1)). Process ids stay the
machine's: the worker ends engines by them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

PROGRAM = "bwrap"

# How long it may take to show that it works, seconds.
PATIENCE_SECONDS = 10.0


def inside(writable: Path, *, ends_with_parent: bool) -> tuple[str, ...]:
    """What stands before a command so that it runs in Bubblewrap and can change files in `writable` alone.

    The command's parent is `bwrap`, which waits for it and passes its exit code on, 128 + the signal when one ended
    it. With `ends_with_parent` both are killed when the thread that started them ends.
    """
    return (
        PROGRAM,
        *("--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(("--die-with-parent",) if ends_with_parent else ()),
        *("--ro-bind", "/", "/"),
        # Landlock lets an engine at few devices; of its own processes in /proc it has settings to change.
        *("--dev-bind", "/dev", "/dev"),
        *("--bind", "/proc", "/proc"),
        *("--bind", str(writable), str(writable)),
        "--",
    )


@cache
def works() -> bool:
    """Whether it is there, and may do here what it has to: tried once in the life of this process."""
    if sys.platform != "linux":
        return False
    command = inside(Path(tempfile.gettempdir()).resolve(), ends_with_parent=True)
    try:
        tried = subprocess.run(  # noqa: S603  # the arguments are ours
            [*command, sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0
