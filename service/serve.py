"""The whole service on this machine by one command: `python -m service.serve`, or `modelpress-serve`.

    serve -- API (uvicorn)
          -- worker for jobs         -- launcher -- engine
          -- worker for inspections  -- launcher -- engine

Ctrl-C or SIGTERM ends all of it; a running job goes back to the queue and is taken up at the next start.
"""

from __future__ import annotations

import argparse
import errno
import http.client
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from db.database import open_database
from db.errors import DatabaseError
from modelpress import __version__
from service.home import AlreadyRunning, ensure_key, held_home, remove_address, write_address
from service.jail.walls import JailUnavailable, require
from service.logs import configure_logs
from service.settings import Settings, SettingsError, child_environment, read_settings
from service.supervisor import KeepsFailing, Program, Supervisor

# How long the API may finish answers that are under way when it is told to end, seconds.
GRACE_SECONDS = 3


class CannotServe(Exception):
    """The service cannot start; the message says why and what to do."""


# Whose messages are for whoever started the service, without a traceback.
_TOLD = (
    *(SettingsError, DatabaseError, SQLAlchemyError, AlreadyRunning),
    *(CannotServe, JailUnavailable, KeepsFailing, OSError),
)


def main() -> None:
    """Run the service until it is told to end."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """As `main`, with the command line given; returns the exit code."""
    try:
        settings = _read_settings(arguments)
        walls = require(settings.jail)
        settings.make_home()
        configure_logs(settings, "serve")
        port = settings.port or _free_port(settings.host)
        address = f"http://{_reachable(settings.host)}:{port}"
        with held_home(settings.home, address):
            _require_free(settings.host, port)
            _say(f"The jail around the engine (MODELPRESS_JAIL={settings.jail}): {walls}.")
            _serve(settings, port, address)
    except _TOLD as error:
        sys.stderr.write(f"modelpress-serve: {error}\n")
        return 1
    return 0


def _read_settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(
        prog="modelpress-serve", description="Run ModelPress on this machine: API, database, queue and workers."
    )
    parser.add_argument(
        "--home", type=Path, help="data folder (default: MODELPRESS_HOME, or ~/.local/share/modelpress)"
    )
    parser.add_argument("--host", help="address to listen on (default: MODELPRESS_HOST, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any (default: MODELPRESS_PORT, or 8000)")
    given: dict[str, Any] = {
        name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None
    }
    settings = read_settings(**given)
    if settings.environment != "embedded":
        raise CannotServe(
            "this command is the embedded service, but MODELPRESS_ENVIRONMENT=production is set: run the API and the "
            "workers as processes of their own (docker-compose.yml shows how), or unset it"
        )
    return settings


def _serve(settings: Settings, port: int, address: str) -> None:
    over = threading.Event()
    is_deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as `nohup` has it
    for number in (signal.SIGINT, signal.SIGTERM, *(() if is_deaf else (signal.SIGHUP,))):
        signal.signal(number, lambda *_: over.set())
    database = open_database(settings.database_url)
    try:
        database.migrate()
        key_path = ensure_key(settings.home, database)
    finally:
        database.dispose()
    supervisor = Supervisor(
        _programs(settings.host, port), child_environment(home=settings.home, host=settings.host, port=port)
    )
    try:
        supervisor.start()
        supervisor.watch(lambda: over.is_set() or _answers(settings.host, port))
        if not over.is_set():
            write_address(settings.home, address)
            _say(f"ModelPress {__version__} at {address} (API key in {key_path}). Ctrl-C stops it.")
        supervisor.watch(over.is_set)
    finally:
        remove_address(settings.home)
        supervisor.stop()
    _say("ModelPress has stopped; waiting jobs go on at the next start.")


def _programs(host: str, port: int) -> list[Program]:
    # Not from the current folder, which may hold somebody's own `api` or `worker`.
    python = [sys.executable, "-P", "-m"]
    api = [*python, "uvicorn", "--factory", "api.app:create_app", "--host", host, "--port", str(port)]
    api += ["--timeout-graceful-shutdown", str(GRACE_SECONDS), "--app-dir", str(Path(__file__).parents[1])]
    worker = [*python, "worker"]
    return [
        Program("API", api),
        Program("worker for jobs", [*worker, "jobs"]),
        Program("worker for inspections", [*worker, "inspections"]),
    ]


def _reachable(host: str) -> str:
    """The host as clients of this machine write it."""
    if host == "0.0.0.0":  # noqa: S104  # compared with, not bound to
        return "127.0.0.1"
    if host == "::":  # which takes no IPv4
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _require_free(host: str, port: int) -> None:
    """Raises CannotServe when something else listens there."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotServe(
                    f"port {port} of {host} is in use by another program: stop it, or give another --port (0 for any)"
                ) from None
            raise CannotServe(f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from None


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(_reachable(host).strip("[]"), port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
