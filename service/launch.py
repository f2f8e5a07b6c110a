"""The process between a worker and an engine: it starts the engine under limits, and leaves nothing behind.

Run by its path with an interpreter that loads nothing (`python -I -S launch.py ...`), so it and what it imports use
the standard library alone. The engine is shut in before its first instruction (service/jail). Everything it starts,
whatever sessions or groups it makes, becomes a child of this process when its own parent ends
(PR_SET_CHILD_SUBREAPER). When the engine ends, when this process is told to (SIGTERM), when the worker dies
(PR_SET_PDEATHSIG) or falls silent, it kills what is left, waits until all of it is gone, and ends.

A worker that is frozen (SIGSTOP, a machine that hangs) is not dead, but loses its lease: what it had started would go
on beside the next attempt. So its signs of life come down a pipe, this process's standard input.

Exit code: the engine's; 128 + the signal when one ended the engine; 143 when told to stop; 137 after a silence.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    # Behind everything else, so that no file there can stand in for one of the standard library.
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from service.jail.machine import prctl
from service.jail.walls import Walls

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Among the first to go when the machine's memory ends: the engine, never the service.
OOM_SCORE = 500

# Processor time between the two limits on it, seconds.
_GRACE_SECONDS = 5

# How often this process looks for a sign of life, seconds.
_LOOK_SECONDS = 0.5

_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


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


def start(command: list[str], *, file_bytes: int, open_files: int, cpu_seconds: int, walls: Walls | None) -> int:
    """Fork and become `command` under its limits and, unless None, behind its walls; gives the process id."""
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
        # At the soft limit SIGXCPU, which says why; SIGKILL a little later for whoever ignores it.
        _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + _GRACE_SECONDS)
        if sys.platform == "linux":
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, sys.stdin.fileno())
        os.close(nothing)
        if walls is not None:
            walls.close()
        os.execvp(command[0], command)  # noqa: S606  # the command is the operator's own, from the settings
    # Whatever it is: an engine whose walls are not up must not start, nor this copy of the launcher go on.
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"cannot start the engine {command[0]!r}: {error}\n")
        sys.stderr.flush()
    os._exit(127)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    """Lower a limit; what is lower already stays."""
    given = resource.getrlimit(which)[1]
    hard = soft if hard is None else hard
    if given != resource.RLIM_INFINITY:
        soft, hard = min(soft, given), min(hard, given)
    resource.setrlimit(which, (soft, hard))


def watch(pid: int, silence_seconds: float | None) -> int:
    """Wait for the engine's end, for the order to stop, or for so long a silence; gives the exit code."""
    heard = time.monotonic()
    while True:
        if silence_seconds is None:
            number = signal.sigwait(_WATCHED)
        else:
            found = signal.sigtimedwait(_WATCHED, _LOOK_SECONDS)
            if _hears_something():
                heard = time.monotonic()
            elif time.monotonic() - heard > silence_seconds:
                return 128 + signal.SIGKILL
            if found is None:
                continue
            number = signal.Signals(found.si_signo)
        if number != signal.SIGCHLD:
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


def _hears_something() -> bool:
    try:
        return os.read(sys.stdin.fileno(), 1 << 16) != b""
    except BlockingIOError:
        return False


def main() -> int:
    """Start the engine, wait, sweep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--file-bytes", type=int, required=True)
    parser.add_argument("--open-files", type=int, required=True)
    parser.add_argument("--cpu-seconds", type=int, required=True, help="of each process")
    parser.add_argument(
        "--silence-seconds", type=float, help="after which the worker is taken for frozen; never without"
    )
    parser.add_argument("--walls", type=Walls.read, help="what the engine may reach; everything without it")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != arguments.parent:
        return 128 + signal.SIGTERM  # the worker died before we could ask to be told
    os.set_blocking(sys.stdin.fileno(), False)
    pid = start(
        arguments.command,
        file_bytes=arguments.file_bytes,
        open_files=arguments.open_files,
        cpu_seconds=arguments.cpu_seconds,
        walls=arguments.walls,
    )
    code = watch(pid, arguments.silence_seconds)
    sweep()
    return code


if __name__ == "__main__":
    sys.exit(main())
