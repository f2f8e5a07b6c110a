"""The process between a worker and an engine: it starts the engine under limits, and leaves nothing behind.

Run by its path with an interpreter that loads nothing (`python -I -S launch.py ...`), so it uses the standard library
alone. Everything the engine starts, whatever sessions or groups it makes, becomes a child of this process when its own
parent ends (PR_SET_CHILD_SUBREAPER). When the engine ends, when this process is told to (SIGTERM), or when the worker
dies (PR_SET_PDEATHSIG), it kills what is left, waits until all of it is gone, and ends.

Exit code: the engine's; 128 + the signal when one ended the engine; 143 when told to stop.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Among the first to go when the machine's memory ends: the engine, never the service.
OOM_SCORE = 500

_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); nothing elsewhere. Raises OSError."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def children() -> list[int]:
    """Process ids of this process's living and dead children."""
    me, found = os.getpid(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold anything; the parent is the second field after it.
            parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue  # it ended while we looked
        if int(parent) == me:
            found.append(int(folder.name))
    return found


def sweep() -> None:
    """Kill every descendant. Returns when none is left."""
    while True:
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            # Each one that is gone leaves its own children to us, for the next round.
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def start(command: list[str], *, file_bytes: int, open_files: int) -> int:
    """Fork and become `command` under its limits; gives the process id."""
    guardian = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(128 + signal.SIGKILL)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, file_bytes)
        _limit(resource.RLIMIT_NOFILE, open_files)
        if sys.platform == "linux":
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.execvp(command[0], command)  # noqa: S606  # the command is the operator's own, from the settings
    except OSError as error:
        sys.stderr.write(f"cannot start the engine {command[0]!r}: {error}\n")
        sys.stderr.flush()
    os._exit(127)


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))


def watch(pid: int) -> int:
    """Wait for the engine's end or for the order to stop; gives the exit code."""
    while True:
        if signal.sigwait(_WATCHED) != signal.SIGCHLD:
            return 128 + signal.SIGTERM
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def main() -> int:
    """Start the engine, wait, sweep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--file-bytes", type=int, required=True)
    parser.add_argument("--open-files", type=int, required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != arguments.parent:
        return 128 + signal.SIGTERM  # the worker died before we could ask to be told
    pid = start(arguments.command, file_bytes=arguments.file_bytes, open_files=arguments.open_files)
    code = watch(pid)
    sweep()
    return code


if __name__ == "__main__":
    sys.exit(main())
