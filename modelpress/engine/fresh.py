"""Fresh processes without the seconds that the import of torch takes, time after time.

this process                                the server: `python -m MODULE ANSWERS`
FreshProcesses("MODULE").run(arguments) ->  has imported what MODULE imports, and done nothing since; forks
                                            the fresh process: main(arguments) -> exit code
exit code, -9 for a killed one          <-  waits for it

A forked process knows what its server knows, which is our code alone: no file was opened and no tensor made there. The
server computes nothing and does not look for a GPU, as neither torch's threads nor CUDA outlive a fork. It ends when
its standard input does, and so with whoever started it.

A process that has imported MODULE itself, and done nothing else yet, need not wait for another's import: it may fork
the server (`fork_here`), which then knows as little.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

Main = Callable[[list[str]], int]


@dataclass(frozen=True)
class _Server:
    """A server, and this process's ends of the pipes to it."""

    requests: int
    answers: int
    wait: Callable[[], int]  # for its end; gives its exit code


class FreshProcesses:
    """Has `main` of a module run in fresh processes, one after the other. Safe to use from several threads."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._server: _Server | None = None
        self._lock = threading.Lock()

    def fork_here(self, main: Main) -> None:
        """Fork the server from this process as it is now; `main` is that of the module. Nothing where there is one."""
        with self._lock:
            if self._server is None:
                self._server = _forked(main)

    def run(self, arguments: Sequence[str]) -> int:
        """Exit code of a process that `main(arguments)` ran in; a negative one is the signal that killed it."""
        with self._lock:
            if self._server is None:
                self._server = _spawned(self._module)
            with suppress(BrokenPipeError):  # the answer tells
                _write(self._server.requests, json.dumps(list(arguments)).encode() + b"\n")
            answer = os.read(self._server.answers, 64)
            if answer:
                return int(answer)
            return self._end(self._server)

    def close(self) -> None:
        """End the server, if there is one; the next `run` starts another."""
        with self._lock:
            if self._server is not None:
                self._end(self._server)

    def _end(self, server: _Server) -> int:
        self._server = None
        os.close(server.requests)
        os.close(server.answers)
        return server.wait()


def _spawned(module: str) -> _Server:
    asked, requests = os.pipe()
    answers, theirs = os.pipe()
    try:
        # The arguments are ours: this interpreter, a module of this package, a number.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module, str(theirs)], stdin=asked, pass_fds=[theirs]
        )
    finally:
        os.close(asked)
        os.close(theirs)
    return _Server(requests, answers, process.wait)


def _forked(main: Main) -> _Server:
    asked, requests = os.pipe()
    answers, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()  # else the copy would write it again
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(requests)
            os.close(answers)
            os.dup2(asked, 0)
            os.close(asked)
            serve(main, theirs)
            code = 0
        # It must not go on as a copy of the process that it was.
        except BaseException:  # noqa: BLE001
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(asked)
    os.close(theirs)
    return _Server(requests, answers, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@cache
def fresh_processes(module: str) -> FreshProcesses:
    """Those of this process: one server for all that it does, however many jobs."""
    processes = FreshProcesses(module)
    atexit.register(processes.close)
    return processes


def serve(main: Main, answers: int) -> None:
    """Be the server: for each line of standard input run `main` in a forked process, and write its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback
    os.set_inheritable(answers, False)
    gc.freeze()  # what was imported is not looked at again, nor are its pages copied for that
    with open(0, "rb", closefd=False) as requests:  # what this process's own input had read is not ours
        while line := requests.readline():
            pid = os.fork()
            if pid == 0:
                os._exit(_run(main, json.loads(line)))
            _, status = os.waitpid(pid, 0)
            os.write(answers, str(os.waitstatus_to_exitcode(status)).encode())


def _run(main: Main, arguments: list[str]) -> int:
    # Of the server's input it may take nothing.
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    try:
        return main(arguments)
    # The process ends here, whatever it was: the server must not go on in its copy.
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
