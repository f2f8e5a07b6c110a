"""What the embedded service keeps in its data folder for the clients of this machine, and the lock on the folder.

serve.lock   held (flock) by the one supervisor that runs; names its address and process
address      URL of the running service; gone when it ends
api-key      the key made on the first start, readable by this user alone
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.database import Database
from db.queries.teams import SCOPES, create_key, find_key, find_or_create_team

ADDRESS_FILE = "address"
KEY_FILE = "api-key"
LOCK_FILE = "serve.lock"
TEAM = "default"


class AlreadyRunning(Exception):
    """Another supervisor holds the data folder; the message says where it answers."""


@contextmanager
def held_home(home: Path, address: str) -> Iterator[None]:
    """Hold the data folder for one supervisor, which answers at `address`. Raises AlreadyRunning."""
    lock = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 1024, 0).decode(errors="replace").strip()
            raise AlreadyRunning(
                f"ModelPress already runs with the data folder {home}: {holder or 'it is just starting'}. Use that "
                "one, stop it first, or give another --home and --port"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{address} (process {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(lock)


def write_address(home: Path, address: str) -> None:
    """Tell clients of this machine where the service answers."""
    _write(home / ADDRESS_FILE, address)


def remove_address(home: Path) -> None:
    """Tell clients of this machine that the service has ended."""
    (home / ADDRESS_FILE).unlink(missing_ok=True)


def ensure_key(home: Path, database: Database) -> Path:
    """The file with an API key that this database knows, made where there is none."""
    path = home / KEY_FILE
    with database.session() as session:
        if path.is_file() and find_key(session, path.read_text().strip()) is not None:
            return path
        team = find_or_create_team(session, TEAM)
        _key, plaintext = create_key(session, team.id, "made on first start", SCOPES)
        # Before the commit: a key that only the database knows would be of no use to anybody.
        _write(path, plaintext)
    return path


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
