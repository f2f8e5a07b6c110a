"""The real service as a child of the demo: started on a free port, stopped whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelpress.client import Client, ModelPressError
from modelpress.client.address import ADDRESS_FILE, KEY_FILE

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class ServiceDidNotStart(ModelPressError):
    """The service ended, or said nothing for a minute."""


@contextmanager
def running_service(home: Path, log: Path) -> Iterator[Client]:
    """Start `python -m service.serve` with its data in `home`; gives a client of it.

    Raises ServiceDidNotStart with the end of its log.
    """
    left = _written(home / ADDRESS_FILE)
    command = [sys.executable, "-m", "service.serve", "--home", str(home), "--port", "0"]
    with log.open("wb") as output:
        # In a session of its own: Ctrl-C comes to us, and we stop it in good order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(process, home, left, log)
        url, key = ((home / name).read_text().strip() for name in (ADDRESS_FILE, KEY_FILE))
        with Client(url, key) as client:
            yield client
    finally:
        _stop(process)


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _wait_until_ready(process: subprocess.Popen[bytes], home: Path, left: int | None, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    # The address is written when the service answers; one that was killed has left its own behind.
    while _written(home / ADDRESS_FILE) in (None, left):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceDidNotStart(f"the service did not start; its log ({log}) ends with:\n{tail}")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
