"""Fresh processes without the seconds that the import of torch takes, time after time.

this process                                the server: `python -m MODULE ANSWERS`
FreshProcesses("MODULE").run(arguments) ->  has imported what MODULE imports, and done nothing since; forks
                                            the fresh process: main(arguments) -> exit code
exit code, -9 for a killed one          <-  waits for it

A forked process knows what its server knows, which is our code alone: no file was opened and no tensor made there. The
server computes nothing and does not look for a GPU, as neither torch's threads nor CUDA outlive a fork. It ends when
its standard input does, and so with whoever started it.
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
from functools import cache


class FreshProcesses:
    """Has `main` of a module run in fresh processes, one after the other. Safe to use from several threads."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._server: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._lock = threading.Lock()

    def run(self, arguments: Sequence[str]) -> int:
        """Exit code of a process that `main(arguments)` ran in; a negative one is the signal that killed it."""
        with self._lock:
            server = self._started()
            assert server.stdin is not None  # noqa: S101  # asked for below
            with suppress(BrokenPipeError):  # the answer tells
                server.stdin.write(json.dumps(list(arguments)).encode() + b"\n")
            answer = os.read(self._answers, 64)
            if answer:
                return int(answer)
            return self._end()

    def close(self) -> None:
        """End the server, if there is one; the next `run` starts another."""
        with self._lock:
            if self._server is not None:
                self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            self._answers, theirs = os.pipe()
            try:
                # The arguments are ours: this interpreter, a module of this package, a number.
                self._server = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", self._module, str(theirs)],
                    stdin=subprocess.PIPE,
                    bufsize=0,
                    pass_fds=[theirs],
                )
            finally:
                os.close(theirs)
        return self._server

    def _end(self) -> int:
        server, self._server = self._server, None
        assert server is not None  # noqa: S101  # whoever calls has seen it
        assert server.stdin is not None  # noqa: S101
        server.stdin.close()
        os.close(self._answers)
        return server.wait()


@cache
def fresh_processes(module: str) -> FreshProcesses:
    """Those of this process: one server for all that it does, however many jobs."""
    processes = FreshProcesses(module)
    atexit.register(processes.close)
    return processes


def serve(main: Callable[[list[str]], int], answers: int) -> None:
    """Be the server: for each line of standard input run `main` in a forked process, and write its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback
    os.set_inheritable(answers, False)
    gc.freeze()  # what was imported is not looked at again, nor are its pages copied for that
    requests = sys.stdin.buffer
    while line := requests.readline():
        pid = os.fork()
        if pid == 0:
            os._exit(_run(main, json.loads(line)))
        _, status = os.waitpid(pid, 0)
        os.write(answers, str(os.waitstatus_to_exitcode(status)).encode())


def _run(main: Callable[[list[str]], int], arguments: list[str]) -> int:
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
