"""The folder that one attempt works in, held by a lock so that only dead ones' are cleared away.

<home>/work/<id>-<attempt>/        see modelpress.spec.task
<home>/work/<id>-<attempt>.lock    locked (flock) by the worker while it lives; the kernel lets go when it dies
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from modelpress.spec.task import INPUTS_FOLDER

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

log = structlog.stdlib.get_logger(__name__)


@contextmanager
def work_folder(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder of this name with its `inputs` in it, removed with all that is in it at the end of the block.

    Raises OSError where there is one that cannot be removed.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder, lock_path = parent / name, parent / f"{name}.lock"
    lock = _take_lock(lock_path)
    try:
        remove_folder(folder)  # of an earlier process that died in this very attempt
        folder.mkdir(mode=0o700)
        (folder / INPUTS_FOLDER).mkdir(mode=0o700)
        yield folder
    finally:
        try:
            remove_folder(folder)
            lock_path.unlink(missing_ok=True)
        finally:
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
    """Remove a folder and all in it, whatever permissions its last user left; what cannot be removed is logged.

    Never raises OSError.
    """
    try:
        here = _enter(str(folder), None)
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("work_folder_left", folder=str(folder), error=str(error))
        return
    try:
        _empty(here)  # which closes it
        folder.rmdir()
    except OSError as error:
        log.error("work_folder_left", folder=str(folder), error=str(error))


def _empty(here: int) -> None:
    """Remove what is in an open folder, as far as it can be, and close it. Raises OSError where it loses its way.

    However deep it is: down by the names and up by `..`, one folder open at a time, so that neither the length of a
    path, nor the number of open files, nor the depth of Python's stack is a bound.
    """
    above: list[_Place] = []
    try:
        place = _Place("", _identity(here), _remove_files(here))
        while True:
            if place.folders:
                name = place.folders.pop()
                try:
                    inner = _enter(name, here)
                except OSError:
                    continue  # which its own folder will not be removed for
                os.close(here)
                here = inner
                above.append(place)
                place = _Place(name, _identity(here), _remove_files(here))
            elif above:
                name, place = place.name, above.pop()
                outer = os.open("..", _FOLDER, dir_fd=here)
                os.close(here)
                here = outer
                if _identity(here) != place.identity:  # somebody moved what we were in
                    raise OSError(errno.ESTALE, "moved while it was removed", name)
                with suppress(OSError):
                    os.rmdir(name, dir_fd=here)
            else:
                return
    finally:
        os.close(here)


@dataclass(frozen=True)
class _Place:
    """A folder on the way down."""

    name: str  # in the one above
    identity: tuple[int, int]
    folders: list[str]  # in it, still to be emptied


def _identity(place: int) -> tuple[int, int]:
    status = os.fstat(place)
    return status.st_dev, status.st_ino


def _remove_files(place: int) -> list[str]:
    """Remove all but the folders from an open folder, as far as it can be; gives the folders' names."""
    with os.scandir(place) as entries:
        kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    for name, is_folder in kinds.items():
        if not is_folder:
            with suppress(OSError):
                os.unlink(name, dir_fd=place)
    return [name for name, is_folder in kinds.items() if is_folder]


def _enter(name: str, above: int | None) -> int:
    """Open a folder whose entries can be seen and removed from here on. Links are not followed. Raises OSError."""
    try:
        place = os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:
        _open_up(name, above)
        place = os.open(name, _FOLDER, dir_fd=above)
    with suppress(OSError):
        os.fchmod(place, stat.S_IRWXU)
    return place


def _open_up(name: str, above: int | None) -> None:
    if os.chmod in os.supports_follow_symlinks:
        os.chmod(name, stat.S_IRWXU, dir_fd=above, follow_symlinks=False)
        return
    # Linux changes the mode of what a link leads to; so of what is held here, which is a folder.
    place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        Path(f"/proc/self/fd/{place}").chmod(stat.S_IRWXU)
    finally:
        os.close(place)


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
