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
from contextlib import contextmanager
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
    """Remove the folders of attempts whose worker is dead; gives their names."""
    cleared = []
    for lock_path in sorted(parent.glob("*.lock")):
        lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its worker lives
        else:
            remove_folder(lock_path.with_suffix(""))
            lock_path.unlink(missing_ok=True)
            cleared.append(lock_path.stem)
        finally:
            os.close(lock)
    return cleared


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, whatever permissions its last user left; what cannot be removed is logged."""
    if not folder.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, _folders, _files in os.walk(folder):
            try:
                Path(place).chmod(stat.S_IRWXU)
            except OSError:
                continue
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        log.error("work_folder_left", folder=str(folder))


def _take_lock(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever clears up may have removed the file between the two calls: then this lock guards nothing.
        if path.exists() and os.fstat(lock).st_ino == path.stat().st_ino:
            return lock
        os.close(lock)
