"""Processes of the service for as long as a block runs, and the wait until one answers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.support.patience import until

STOP_SECONDS = 30.0


def service_environment(**settings: str) -> dict[str, str]:
    """This process's environment with these settings of the service and no others."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MODELPRESS_")}
    return {**clean, **{f"MODELPRESS_{name.upper()}": value for name, value in settings.items()}}


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, its output in `log`; asked to end (SIGTERM) after the block, and killed if it does not."""
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output, cwd=folder) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RuntimeError(f"{' '.join(command)} did not end when it was asked to:\n{_tail(log)}") from None


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    """Wait until `url` answers 200. Raises RuntimeError, with the end of the log, when it does not."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"the process for {url} ended with code {process.returncode}:\n{_tail(log)}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{url} is not ready after {seconds:g} s:\n{_tail(log)}")


def freeze(pid: int) -> None:
    """Stop a process as a machine that swaps does; every thread of it stands when this returns.

    The signal is on its way for as long as a thread is in a system call, in which it may yet take a lock.
    """
    os.kill(pid, signal.SIGSTOP)
    until(lambda: all(_is_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()), STOP_SECONDS)


def _is_stopped(task: Path) -> bool:
    try:
        stat = (task / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # that thread has ended
        return True
    # The state stands behind the name, which may have any characters in its brackets.
    return stat.rpartition(")")[2].split()[0] == "T"


def engine_processes(home: Path, attempt: str = "") -> list[str]:
    """Command lines of the processes of any engine of this site, or of an attempt (`<id>-<number>`, or its beginning).

    They work in the work folder, or their environment names it.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if any(
                str(home / "work" / attempt) in place for place in (process.cwd(), process.environ().get("HOME", ""))
            ):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
