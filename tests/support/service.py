"""The whole embedded service, as `make serve` starts it, on a data folder and a port of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.latency import LATENCY_SECONDS
from tests.support.processes import service_environment

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class RunningService:
    """A service that answers."""

    home: Path
    url: str
    key: str = field(repr=False)


@contextmanager
def running_service(home: Path, **environment: str) -> Iterator[RunningService]:
    """Start `python -m service.serve`, wait until it answers, and stop it as Ctrl-C does; it must end well.

    `environment` comes on top of this process's, less what would name another service.
    """
    home.mkdir(parents=True)
    log_path = home.parent / f"{home.name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.serve", "--home", str(home), "--port", "0"],
            cwd=ROOT,
            env=child_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        # The address is written when the service answers.
        while not (home / "address").exists():
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.05)
        yield RunningService(home, (home / "address").read_text().strip(), (home / "api-key").read_text().strip())
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert code == 0, log_path.read_text()


def child_environment(**more: str) -> dict[str, str]:
    """The environment for a child: one thread, this checkout, no service named; latencies are short."""
    clean = service_environment(latency_seconds=str(LATENCY_SECONDS))
    return clean | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more
