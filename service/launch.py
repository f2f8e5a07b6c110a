"""The process between a worker and an engine: it starts the engine under limits, and leaves nothing behind.

Run by its path with an interpreter that loads nothing (`python -I -S launch.py PARENT TERMS COMMAND...`), so it and
what it imports use the standard library alone; or forked from a zygote (service/zygote.py). The engine is shut in
before its first instruction (service/jail). Everything it starts, whatever sessions or groups it makes, becomes a
child of this process when its own parent ends (PR_SET_CHILD_SUBREAPER). When the engine ends, when this process is
told to (SIGTERM), when its own parent dies (PR_SET_PDEATHSIG) or the worker falls silent, it kills what is left, waits
until all of it is gone, and ends.

A worker that is frozen (SIGSTOP, a machine that hangs) is not dead, but loses its lease: what it had started would go
on beside the next attempt. So its signs of life come down a pipe, this process's standard input.

Exit code: the engine's; 128 + the signal when one ended the engine; 143 when told to stop; 137 after a silence.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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

# What a launcher waits for, and therefore blocks.
WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@dataclass(frozen=True)
class Terms:
    """On what terms one engine runs, as the worker tells the launcher."""

    file_bytes: int  # of each file that it writes
    open_files: int
    cpu_seconds: int  # of each process
    silence_seconds: float | None  # after which the worker is taken for frozen; None for never
    walls: Walls | None  # what the engine may reach; None for everything

    def write(self) -> str:
        """As one argument of a command."""
        return json.dumps({**asdict(self), "walls": None if self.walls is None else self.walls.write()})

    @classmethod
    def read(cls, text: str) -> Terms:
        """What `write` gave."""
        content = json.loads(text)
        walls = content.pop("walls")
        return cls(**content, walls=None if walls is None else Walls.read(walls))


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


def start(become: Callable[[], object], terms: Terms) -> int:
    """Fork and, under its limits and behind its walls, become the engine; gives the process id.

    `become` does not return.
    """
    guardian = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(128 + signal.SIGKILL)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, terms.file_bytes)
        _limit(resource.RLIMIT_NOFILE, terms.open_files)
        # At the soft limit SIGXCPU, which says why; SIGKILL a little later for whoever ignores it.
        _limit(resource.RLIMIT_CPU, terms.cpu_seconds, terms.cpu_seconds + _GRACE_SECONDS)
        if sys.platform == "linux":
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, sys.stdin.fileno())
        os.close(nothing)
        if terms.walls is not None:
            terms.walls.close()
        become()
    # Whatever it is: an engine whose walls are not up must not start, nor this copy of the launcher go on.
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"cannot start the engine: {error}\n")
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
            number = signal.sigwait(WATCHED)
        else:
            found = signal.sigtimedwait(WATCHED, _LOOK_SECONDS)
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


def guard(parent: int, terms: Terms, become: Callable[[], object]) -> int:
    """Start the engine, wait, sweep; gives the exit code.

    `parent` is the process whose end ends this one too; 0 for whichever it is.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent and os.getppid() != parent:
        return 128 + signal.SIGTERM  # it died before we could ask to be told
    os.set_blocking(sys.stdin.fileno(), False)
    code = watch(start(become, terms), terms.silence_seconds)
    sweep()
    return code


def execute(command: list[str]) -> None:
    """Become a command. Raises OSError that names it."""
    try:
        os.execvp(command[0], command)  # noqa: S606  # the command is the operator's own, from the settings
    except OSError as error:
        raise OSError(error.errno, error.strerror, command[0]) from error


def main() -> int:
    """Guard the command of the arguments."""
    parent, terms, *command = sys.argv[1:]
    return guard(int(parent), Terms.read(terms), lambda: execute(command))


if __name__ == "__main__":
    sys.exit(main())
