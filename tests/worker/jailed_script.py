"""What a jailed engine would try: `python jailed_script.py FOLDER` does each try named in FOLDER/tries.json.

It prints one JSON object: by name, null where the try worked, else the number of the error. The standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_MACHINE = os.uname().machine
_NUMBERS = {
    "x86_64": {
        "unshare": 272,
        "io_uring_setup": 425,
        "ptrace": 101,
        "bpf": 321,
        "clone3": 435,
        "clone": 56,
        "mount": 165,
        "inotify_init1": 294,
        "fanotify_mark": 301,
        "memfd_create": 319,
        "memfd_secret": 447,
        "sched_setattr": 314,
        "ioprio_set": 251,
    },
    "aarch64": {
        "unshare": 97,
        "io_uring_setup": 425,
        "ptrace": 117,
        "bpf": 280,
        "clone3": 435,
        "clone": 220,
        "mount": 40,
        "inotify_init1": 26,
        "fanotify_mark": 263,
        "memfd_create": 279,
        "memfd_secret": 447,
        "sched_setattr": 274,
        "ioprio_set": 30,
    },
}


def call(name: str, *arguments: int) -> None:
    """A system call. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = [ctypes.c_long(value) for value in (_NUMBERS[_MACHINE][name], *arguments)]
    if libc.syscall(*numbers) < 0:
        raise OSError(ctypes.get_errno(), name)


def attempt(action: Callable[[], object]) -> int | None:
    """Number of the error, or None."""
    try:
        action()
    except OSError as error:
        return error.errno
    return None


def connect(host: str, port: int) -> None:
    """TCP."""
    with socket.create_connection((host, port), timeout=5):
        return


def thread() -> None:
    """A thread, by what the C library does when clone3 is refused."""
    worker = threading.Thread(target=lambda: None)
    worker.start()
    worker.join()


def fork() -> None:
    """A child process."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def write(path: str) -> None:
    """Make or change a file."""
    with Path(path).open("a") as file:
        file.write("x")


def execute(path: str) -> None:
    """Become a program, in a child. Raises OSError."""
    os.posix_spawn(path, [path], {})


def pin_thread() -> None:
    """As thread pools do: another thread of this process, by its number. Raises OSError."""
    is_over = threading.Event()
    worker = threading.Thread(target=is_over.wait)
    worker.start()
    try:
        assert worker.native_id is not None
        os.sched_setaffinity(worker.native_id, os.sched_getaffinity(0))
    finally:
        is_over.set()
        worker.join()


TRIES: dict[str, Callable[..., object]] = {
    "read": lambda path: Path(path).read_bytes(),
    "list": os.listdir,
    "write": write,
    "symlink": os.symlink,
    "remove": os.unlink,
    "chmod": os.chmod,
    "times": os.utime,
    "execute": execute,
    "signal": lambda pid: os.kill(pid, 0),
    "connect": connect,
    "socket": lambda family: socket.socket(family).close(),
    "socketpair": lambda: [end.close() for end in socket.socketpair()],
    "thread": thread,
    "fork": fork,
    "pin": lambda pid, processor: os.sched_setaffinity(pid, {processor}),
    "pin thread": pin_thread,
    "policy": lambda pid: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
    "parameters": lambda pid: os.sched_setparam(pid, os.sched_param(0)),
    "priority": lambda which, whose: os.setpriority(which, whose, 19),
    "call": call,
}


def main(arguments: list[str]) -> int:
    """Try all."""
    folder = Path(arguments[0])
    tries: dict[str, list] = json.loads((folder / "tries.json").read_text())
    outcomes = {name: attempt(lambda what=what, rest=rest: TRIES[what](*rest)) for name, (what, *rest) in tries.items()}
    named = {name: None if code is None else errno.errorcode[code] for name, code in outcomes.items()}
    sys.stdout.write(json.dumps(named) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
