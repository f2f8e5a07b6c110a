"""The process that engines are forked from: it has imported the engine once, and done nothing since.

    worker  -- a request: folder, terms, environment; three descriptors -->  python -m service.zygote MODULE
                                                                                 | forks
    worker  <-- the process id, later the exit code, by the third of them     launcher (service/launch.py)
                                                                                 | forks
                                                                             engine: main([folder]) of MODULE

It opens no upload, computes nothing, looks for no GPU and holds no secret: its environment is an engine's. So what a
forked engine knows when it begins is our code alone, and it pays the time of a fork, not that of an import.

It ends when its standard input does, the socket of requests, and so with the worker; what it has forked is told to end
then (PR_SET_PDEATHSIG). It reaps no launcher before the worker hangs up, so that until then the process id cannot come
to mean another process. Where MODULE cannot be imported, engines are commands (`python -m MODULE FOLDER`), which say
why.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from service import launch
from service.jail.machine import prctl

# What one message of a Unix socket holds, by Linux's default.
_REQUEST_BYTES = 200_000

_PR_SET_NAME = 15

Main = Callable[[list[str]], int]


@dataclass(frozen=True)
class Request:
    """One engine to fork. With it come three descriptors: its signs of life, its output, and that for answers."""

    folder: str
    environment: Mapping[str, str]  # the whole
    terms: str  # launch.Terms, written

    def write(self) -> bytes:
        """As one message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, content: bytes) -> Request:
        """What `write` gave."""
        return cls(**json.loads(content))


@dataclass
class _Run:
    """A launcher that was forked and is not reaped."""

    pid: int
    end: int | None  # its pidfd; None when it has ended
    answers: int | None  # None when the worker has hung up


class Zygote:
    """Forks launchers, tells how they end, and reaps them."""

    def __init__(self, requests: socket.socket, become: Callable[[str], object]) -> None:
        """`become` makes a process the engine of a folder, and does not return."""
        self._requests = requests
        self._become = become
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._runs: dict[int, _Run] = {}  # by each of their descriptors

    def serve(self) -> None:
        """Go on until the worker hangs up."""
        while True:
            for descriptor, _ in self._poll.poll():
                run = self._runs.get(descriptor)
                if run is None:
                    content, given, _, _ = socket.recv_fds(self._requests, _REQUEST_BYTES, 3)
                    if not content:
                        return
                    self._fork(Request.read(content), *given)
                elif descriptor == run.end:
                    self._tell_end(run, descriptor)
                else:
                    self._hang_up(run, descriptor)

    def _fork(self, request: Request, signs: int, output: int, answers: int) -> None:
        zygote = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, launch.WATCHED)
        pid = os.fork()
        if pid == 0:
            _end_with(lambda: self._guard(zygote, request, signs, output))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, launch.WATCHED)
        os.close(signs)
        os.close(output)
        run = _Run(pid, os.pidfd_open(pid), answers)
        assert run.end is not None  # noqa: S101  # set above
        self._watch(run, run.end, select.POLLIN)
        self._watch(run, answers, select.POLLRDHUP)
        _answer(answers, pid)

    def _guard(self, zygote: int, request: Request, signs: int, output: int) -> int:
        """Be the launcher, as service.launch is it by itself."""
        os.setsid()
        self._requests.detach()  # number 0 is another from here on
        os.dup2(signs, 0)
        for number in (1, 2):
            os.dup2(output, number)
        _close_all_others()
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        tempfile.tempdir = None  # else that of the zygote, where one was found
        _name("engine launcher")
        return launch.guard(zygote, launch.Terms.read(request.terms), lambda: self._become(request.folder))

    def _tell_end(self, run: _Run, descriptor: int) -> None:
        self._forget(descriptor)
        run.end = None
        # It stays what it is, a dead child.
        found = os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None  # noqa: S101  # it has ended
        code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        if run.answers is None:
            os.waitpid(run.pid, 0)
        else:
            _answer(run.answers, code)

    def _hang_up(self, run: _Run, descriptor: int) -> None:
        run.answers = None
        if run.end is None:
            os.waitpid(run.pid, 0)
        else:
            os.kill(run.pid, signal.SIGTERM)  # nobody waits for it any more
        self._forget(descriptor)  # which tells that it is reaped

    def _watch(self, run: _Run, descriptor: int, events: int) -> None:
        self._runs[descriptor] = run
        self._poll.register(descriptor, events)

    def _forget(self, descriptor: int) -> None:
        del self._runs[descriptor]
        self._poll.unregister(descriptor)
        os.close(descriptor)


def _answer(descriptor: int, number: int) -> None:
    with suppress(OSError):  # hung up: the loop sees it
        os.write(descriptor, str(number).encode())


def _close_all_others() -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are wanted
        if int(name) > sys.stderr.fileno():
            with suppress(OSError):  # the folder's own
                os.close(int(name))


def _name(name: str) -> None:
    """For whoever looks at the processes: their command lines are all the zygote's."""
    text = ctypes.create_string_buffer(name.encode())
    prctl(_PR_SET_NAME, ctypes.addressof(text))


def _end_with(work: Callable[[], int]) -> None:
    """End this process with the code that `work` gives; it must not go on as a copy of what it was forked from."""
    code = 1
    try:
        code = work()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _becoming(main: Main) -> Callable[[str], object]:
    def become(folder: str) -> None:
        _name("engine")
        _end_with(lambda: main([folder]))

    return become


def _load(module: str) -> Callable[[str], object]:
    """How a process becomes the engine."""
    try:
        return _becoming(importlib.import_module(module).main)
    # Whatever it is, each engine shall say so in its own log.
    except Exception:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        return lambda folder: launch.execute([sys.executable, "-m", module, folder])


def main() -> int:
    """Import the module, then serve."""
    module = sys.argv[1]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _name("zygote")
    become = _load(module)
    gc.collect()
    gc.freeze()  # what was imported is not looked at again, nor are its pages copied for that
    Zygote(socket.socket(fileno=0), become).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
