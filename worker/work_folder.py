"""The folder that one attempt works in, held by a lock so that only dead ones' are cleared away.

<home>/work/<id>-<attempt>/        see modelpress.spec.task
<home>/work/<id>-<attempt>.lock    locked (flock) by the worker while it lives; the kernel lets go when it dies
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from modelpress.spec.task import INPUTS_FOLDER

log = structlog.stdlib.get_logger(__name__)


@contextmanager
def work_folder(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder of this name with its `inputs` in it, removed with all that is in it at the end of the block."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder, lock_path = parent / name, parent / f"{name}.lock"
    lock = _take_lock(lock_path)
    try:
        remove_folder(folder)  # of an earlier process that died in this very attempt
        (folder / INPUTS_FOLDER).mkdir(mode=0o700, parents=True)
        yield folder
    finally:
        remove_folder(folder)
        lock_path.unlink(missing_ok=True)
        os.close(lock)


def clear_leftovers(parent: Path) -> list[str]:
    """Remove the folders of attempts whose worker is dead; gives their names. At any time, beside living workers."""
    # A folder without a lock is one that could not be removed at its end.
    folders = {path.name for path in parent.glob("*/") if not path.is_symlink()}
    names = folders | {path.stem for path in parent.glob("*.lock")}
    return [name for name in sorted(names) if _clear(parent / name, parent / f"{name}.lock")]


def _clear(folder: Path, lock_path: Path) -> bool:
    lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(lock, lock_path):
            return False  # its worker has just ended, and who comes next has another lock
        is_left = folder.exists()
        remove_folder(folder)
        lock_path.unlink(missing_ok=True)
    except BlockingIOError:
        return False  # its worker lives
    finally:
        os.close(lock)
    return is_left and not folder.exists()


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, whatever permissions its last user left; what cannot be removed is logged."""
    if not folder.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        _open_up(folder)
        for place, folders, _files in os.walk(folder):
            for name in folders:  # before they are looked into
                _open_up(Path(place, name))
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        log.error("work_folder_left", folder=str(folder))


def _open_up(folder: Path) -> None:
    with suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(stat.S_IRWXU)


def _take_lock(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever clears up may have removed the file between the two calls: then this lock guards nothing.
        if _is_at(lock, path):
            return lock
        os.close(lock)


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.fstat(lock).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
