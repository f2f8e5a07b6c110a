"""One process of the service, which a fault may kill, freeze or end, and which is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.processes import freeze

# A worker that is told to end asks for a last checkpoint and gives its job back; then it must be gone, seconds.
END_SECONDS = 30.0


class Member:
    """A process, its log, and the same process again after its death."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, environment, log
        self._process: subprocess.Popen[bytes] | None = None
        self._begin = 0  # where the log of the newest process begins

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The newest one."""
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def worker(self) -> str:
        """The name by which attempts name this process, where it is a worker of jobs."""
        return f"{socket.gethostname()}-jobs-{self.process.pid}"

    @property
    def is_running(self) -> bool:
        """False once it has ended, whyever."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, also in the place of one that has ended. Does not wait until it answers."""
        assert not self.is_running, "it runs already"
        self._begin = self.log_size()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=dict(self._environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As the kernel does when memory ends; gone when this returns."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """As a machine that swaps or is being moved. Stopped, every thread of it, when this returns."""
        freeze(self.process.pid)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Tell it to end."""
        self.process.send_signal(signal.SIGTERM)

    def tell_to_end(self) -> None:
        """Tell it to end, if it runs, frozen or not."""
        if self.is_running:
            self.thaw()
            self.terminate()

    def wait(self, seconds: float = END_SECONDS) -> int | None:
        """Its exit code, None when it had to be killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def children(self) -> list[psutil.Process]:
        """Every process below it: of a worker the launcher, the engine, and what that started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def log_size(self) -> int:
        """Where its log ends now."""
        return self._log.stat().st_size if self._log.exists() else 0

    def said(self, words: str, since: int = 0) -> bool:
        """True when its log has these words behind the byte `since`."""
        with self._log.open("rb") as log:
            log.seek(since)
            return words.encode() in log.read()

    def has_said(self, words: str) -> bool:
        """True when the newest process has said these words."""
        return self.said(words, self._begin)

    def await_words(self, words: str, since: int, seconds: float) -> bool:
        """Wait for these words, looking often: what is to be hit lasts for milliseconds. False when they never came."""
        give_up = time.monotonic() + seconds
        while not self.said(words, since):
            if time.monotonic() > give_up or not self.is_running:
                return False
            time.sleep(0.002)
        return True

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def is_gone(process: psutil.Process) -> bool:
    """True when it computes no more, whether or not its parent has taken note."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def signal_process(process: psutil.Process, number: signal.Signals) -> bool:
    """Send it; False when the process was gone already."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
