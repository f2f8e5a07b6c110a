"""A worker's zygote (service/zygote.py): started with the worker, asked for each engine, replaced when it is gone."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from service.launch import Terms
from service.zygote import Request
from worker.starter import Started, children_of

# How long it may take to tell of a launcher that was killed, and to reap it, before it is killed itself, seconds.
PATIENCE_SECONDS = 3.0


class Forker:
    """Forks engines from a process that has loaded them. To be used by one thread at a time."""

    def __init__(self, module: str, environment: Mapping[str, str], inside: Sequence[str] = ()) -> None:
        """`main([folder])` of `module` is the engine, and is loaded in `environment`. `inside` is what the zygote runs
        in, if anything: a command that its own follows, and that waits for it.
        """
        self._module = module
        self._environment = dict(environment)
        self.inside = tuple(inside)
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    @property
    def kept(self) -> frozenset[int]:
        """The zygote, and what it runs in."""
        if self._process is None:
            return frozenset()
        inner = children_of(self._process.pid) if self.inside else []
        return frozenset({self._process.pid, *(process.pid for process in inner)})

    def prepare(self) -> None:
        """Let it load, in the background. Raises OSError."""
        self._living()

    def start(self, folder: Path, *, environment: Mapping[str, str], terms: Terms, signs: int, output: int) -> Started:
        """See Starter. It does not wait until the zygote has loaded."""
        content = Request(str(folder), environment, terms.write()).write()
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            given = [signs, output, theirs.fileno()]
            try:
                try:
                    socket.send_fds(self._living(), [content], given)
                except ConnectionError:  # killed since
                    self.kill()
                    socket.send_fds(self._living(), [content], given)
            except OSError:
                answers.close()
                raise
        return _Forked(answers, self)

    def kill(self) -> int:
        """End it now, and with it what it has forked, if it runs; gives its exit code."""
        if self._process is None:
            return -signal.SIGKILL
        for pid in self.kept:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._forget(self._process)

    def ended(self) -> int:
        """Exit code of one that has hung up."""
        if self._process is None:
            return -signal.SIGKILL
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()
        return self._forget(self._process)

    def close(self) -> None:
        """End it: it holds nothing that could be lost, and may still load."""
        self.kill()

    def _living(self) -> socket.socket:
        if self._process is None or self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    self._process = subprocess.Popen(  # noqa: S603  # the arguments are ours
                        [*self.inside, sys.executable, "-m", "service.zygote", self._module],
                        cwd="/",
                        env=self._environment,
                        stdin=theirs.fileno(),
                        stdout=2,  # nobody prints there but what goes wrong
                        start_new_session=True,  # Ctrl-C is the worker's
                        close_fds=True,
                    )
                except OSError:
                    ours.close()
                    raise
            self._requests = ours
        return self._requests

    def _forget(self, process: subprocess.Popen[bytes]) -> int:
        code = process.wait()
        if self._requests is not None:
            self._requests.close()
        self._process = self._requests = None
        return 128 - code if self.inside and code > 128 else code


class _Forked:
    """A launcher that a zygote has forked, or will when it has loaded."""

    def __init__(self, answers: socket.socket, zygote: Forker) -> None:
        self._answers = answers
        self._zygote = zygote
        self._poll = select.poll()
        self._poll.register(answers, select.POLLIN)
        self._pid: int | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int | None:
        """None while the zygote loads."""
        self.wait(0)
        return self._pid

    def wait(self, timeout: float) -> int | None:
        """See Started. For one whose zygote is gone it is the zygote's: -9 for a killed one."""
        give_up = time.monotonic() + timeout
        while self._code is None:
            if not self._poll.poll(max(0.0, give_up - time.monotonic()) * 1000):
                return None
            answer = self._answers.recv(64)
            if not answer:
                self._code = self._zygote.ended()
            elif self._pid is None:
                self._pid = int(answer)
            else:
                self._code = int(answer)
        return self._code

    def tell_to_end(self) -> None:
        """See Started. A zygote that has not forked it is not waited for, but ended."""
        pid = self.pid
        if pid is None:
            self._zygote.kill()
        elif self._code is None:
            os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """See Started."""
        pid = self.pid
        if pid is not None and self._code is None:
            os.kill(pid, signal.SIGKILL)
        if self.wait(PATIENCE_SECONDS) is None:
            self._zygote.kill()
            self.wait(PATIENCE_SECONDS)

    def release(self) -> None:
        """Hang up, and wait until the zygote has reaped it."""
        with self._answers, suppress(OSError):  # its zygote is gone
            self._answers.shutdown(socket.SHUT_WR)
            while self._poll.poll(PATIENCE_SECONDS * 1000) and self._answers.recv(64):
                pass
