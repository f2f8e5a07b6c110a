"""Processes that run together: started, started again when they die, and ended together, with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from service.jail.machine import prctl
from service.launch import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, sweep

# A worker needs a moment to end its child and to give its job back; after this it is killed, seconds.
STOP_SECONDS = 15.0

# A process that died waits before its next start: so long at first, then twice as long each time, seconds.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

# A process that ran so long had started well, and its earlier deaths are forgotten, seconds.
HEALTHY_SECONDS = 60.0

# Deaths in a row, without having run for long, after which all is given up.
MOST_DEATHS = 5

TICK_SECONDS = 0.1

log = structlog.stdlib.get_logger(__name__)


class KeepsFailing(Exception):
    """A process dies again and again; the message names it."""


@dataclass(frozen=True)
class Program:
    """One process to keep running."""

    name: str
    command: Sequence[str]


class Supervisor:
    """Keeps programs running. Of one thread, which must live as long as they shall."""

    def __init__(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        self._members = [_Member(program, environment) for program in programs]

    def start(self) -> None:
        """Start every program. Whatever they leave behind will come to this process."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        for member in self._members:
            member.start()

    def watch(self, is_over: Callable[[], bool]) -> None:
        """Start again what dies, until `is_over`. Raises KeepsFailing."""
        while not is_over():
            for member in self._members:
                member.tend()
            time.sleep(TICK_SECONDS)

    def stop(self) -> None:
        """End every program, gently first. When this returns no process of theirs is left."""
        give_up = time.monotonic() + STOP_SECONDS
        for member in self._members:
            member.send(signal.SIGTERM)
        for member in self._members:
            member.wait(max(0.0, give_up - time.monotonic()))
        for member in self._members:
            member.send(signal.SIGKILL)
            member.wait(None)
        sweep()


class _Member:
    def __init__(self, program: Program, environment: Mapping[str, str]) -> None:
        self._program = program
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0
        self._next_start = 0.0

    def start(self) -> None:
        self._started = time.monotonic()
        parent = os.getpid()

        def tie() -> None:
            # Should the supervisor be killed, its programs end as if told to. One thread, so this is safe after a fork.
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)

        # A session of its own: Ctrl-C reaches the supervisor alone, which then ends all in order.
        self._process = subprocess.Popen(  # noqa: S603  # our own programs
            self._program.command,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=tie,
        )

    def tend(self) -> None:
        """Start it again when it has died and its pause is over."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_start:
                self.start()
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        self._deaths = 1 if now - self._started > HEALTHY_SECONDS else self._deaths + 1
        if self._deaths >= MOST_DEATHS:
            raise KeepsFailing(
                f"the {self._program.name} ended {self._deaths} times in a row, the last time with code {code}; what "
                "it said stands above"
            )
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1), LONGEST_PAUSE_SECONDS)
        self._next_start = now + pause
        log.error("process_died", program=self._program.name, code=code, again_in_seconds=pause)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout: float | None) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                log.warning("process_slow_to_end", program=self._program.name)
