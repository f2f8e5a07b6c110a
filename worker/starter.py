"""How a worker's engines start, and what a started one is to whoever waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from service import launch
from service.launch import Terms


class Started(Protocol):
    """The launcher of one engine (service/launch.py). Its process id means no other process before `release`."""

    @property
    def pid(self) -> int | None:
        """Its process id; None before there is one."""
        ...

    def wait(self, timeout: float) -> int | None:
        """The exit code (see launch.py), or None when it still runs after `timeout` seconds."""
        ...

    def tell_to_end(self) -> None:
        """Have it clear up and end, if it runs."""
        ...

    def kill(self) -> None:
        """End it now. `wait` gives the exit code when this returns."""
        ...

    def release(self) -> None:
        """Nobody asks for it any more."""
        ...


class Starter(Protocol):
    """One way to start engines."""

    @property
    def kept(self) -> frozenset[int]:
        """Process ids of what it keeps between engines."""
        ...

    def prepare(self) -> None:
        """Begin with what the first engine would wait for. Raises OSError."""
        ...

    def start(self, folder: Path, *, environment: Mapping[str, str], terms: Terms, signs: int, output: int) -> Started:
        """Start an engine on `folder`, in that folder. `signs` and `output` are descriptors, which stay the caller's.

        Raises OSError when no process can be started.
        """
        ...

    def close(self) -> None:
        """End what it keeps."""
        ...


class Spawner:
    """Starts a command for each engine."""

    kept: frozenset[int] = frozenset()

    def __init__(self, command: Sequence[str], inside: Sequence[str] = ()) -> None:
        """The folder follows `command` as its last argument. `inside` is what launcher and engine run in, if anything:
        a command that theirs follows, and that ends with this process.
        """
        self._command = tuple(command)
        self.inside = tuple(inside)

    def prepare(self) -> None:
        """Nothing."""

    def start(self, folder: Path, *, environment: Mapping[str, str], terms: Terms, signs: int, output: int) -> Started:
        """See Starter."""
        return _Spawned(
            subprocess.Popen(  # noqa: S603  # the command is the operator's own, from the settings
                [
                    *self.inside,
                    *(sys.executable, "-I", "-S", launch.__file__),
                    *("0" if self.inside else str(os.getpid()), terms.write()),
                    *(*self._command, str(folder)),
                ],
                cwd=folder,
                env=dict(environment),
                stdin=signs,
                stdout=output,
                stderr=output,
                start_new_session=True,
                close_fds=True,
            ),
            is_inside=bool(self.inside),
        )

    def close(self) -> None:
        """Nothing."""


class _Spawned:
    """A child of this process."""

    def __init__(self, process: subprocess.Popen[bytes], *, is_inside: bool) -> None:
        """The child is the launcher or, where that `is_inside` of another command, that command."""
        self._process = process
        self._is_inside = is_inside

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def wait(self, timeout: float) -> int | None:
        """See Started."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def tell_to_end(self) -> None:
        """See Started."""
        launchers = children_of(self.pid) if self._is_inside else []
        for launcher in launchers:
            with suppress(psutil.NoSuchProcess):
                launcher.terminate()
        if not launchers:
            self._process.terminate()

    def kill(self) -> None:
        """See Started."""
        self._process.kill()
        self._process.wait()

    def release(self) -> None:
        """It was reaped when it was waited for."""


def children_of(pid: int) -> list[psutil.Process]:
    """The processes that it started and that live; none where it is gone."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []
