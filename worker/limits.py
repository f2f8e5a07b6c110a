"""The limits on one engine process that the kernel does not keep for us: memory, disk and time of the whole tree."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelpress.spec.failure import Failure, FailureKind
from service.settings import Settings

INTERVAL_SECONDS = 0.5

# Folders in folders, more than any library makes: whoever looks into them keeps one open at each level.
DEEPEST = 64


class Unmeasurable(Exception):
    """Nobody can say how large the files in a folder are."""


@dataclass(frozen=True)
class Limits:
    """What one job or inspection may use."""

    memory_bytes: int
    disk_bytes: int
    disk_reserve_bytes: int  # room that must stay free on the disk
    seconds: float
    spent_seconds: float = 0.0  # of them, by earlier attempts at the same job

    @classmethod
    def of(cls, settings: Settings, seconds: float, spent_seconds: float = 0.0) -> Limits:
        """Those of the service, with so many seconds."""
        return cls(
            settings.memory_limit_bytes,
            settings.disk_limit_bytes,
            settings.disk_reserve_bytes,
            seconds,
            spent_seconds,
        )

    @property
    def seconds_left(self) -> float:
        """For this attempt."""
        return max(0.0, self.seconds - self.spent_seconds)


class LimitWatch:
    """Looks at a running child now and then."""

    def __init__(self, limits: Limits, folder: Path) -> None:
        self._limits = limits
        self._folder = folder
        self._started = time.monotonic()
        self._next_look = 0.0

    def breach(self, tree: Callable[[], list[psutil.Process]]) -> Failure | None:
        """The limit that is broken; None while none is, or when it is too early to look again."""
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + INTERVAL_SECONDS
        return self._time_breach(now) or self._memory_breach(tree()) or self._disk_breach()

    def _time_breach(self, now: float) -> Failure | None:
        if now - self._started <= self._limits.seconds_left:
            return None
        return Failure(
            kind=FailureKind.TIMEOUT,
            message=f"it ran longer than the {self._limits.seconds:g} seconds that it may, all its attempts together; "
            "use fewer epochs or a smaller data set, or a higher limit (the service's own is the operator's to raise)",
        )

    def _memory_breach(self, tree: list[psutil.Process]) -> Failure | None:
        limit = self._limits.memory_bytes
        # Resident sizes count shared pages once for each process: quick, and never too small.
        if sum(_resident(process) for process in tree) <= limit or sum(_proportional(p) for p in tree) <= limit:
            return None
        return Failure(
            kind=FailureKind.OUT_OF_MEMORY,
            message=f"it needed more than the {_size(limit)} of memory that this service allows; use a smaller batch "
            "size, model or data set, or ask the operator to raise the limit",
        )

    def _disk_breach(self) -> Failure | None:
        try:
            used = disk_usage(self._folder)
        except Unmeasurable as error:
            return Failure(
                kind=FailureKind.OUT_OF_DISK,
                message=f"it made {error}, so that nobody knows how large its files are; retry the job, and report it "
                "when it happens again",
            )
        if used > self._limits.disk_bytes:
            return Failure(
                kind=FailureKind.OUT_OF_DISK,
                message=f"its files grew beyond the {_size(self._limits.disk_bytes)} that this service allows; ask for "
                "fewer artifacts, or ask the operator to raise the limit",
            )
        if shutil.disk_usage(self._folder).free < self._limits.disk_reserve_bytes:
            return Failure(
                kind=FailureKind.OUT_OF_DISK,
                message="the disk of the worker's machine is full; retry the job when the operator has made room",
            )
        return None


def disk_usage(folder: Path) -> int:
    """Bytes that a folder and all under it take up on the disk. Links are not followed.

    Raises Unmeasurable where a folder cannot be looked into, all or its files, or lies deeper than DEEPEST.
    """
    total = 0
    # Each folder is opened by its name in the one above: a whole path may be longer than the kernel takes.
    levels = [_Level(None, [str(folder)])]
    try:
        while levels:
            if not levels[-1].folders:
                levels.pop().close()
                continue
            name = levels[-1].folders.pop()
            if len(levels) > 1 + DEEPEST:
                raise Unmeasurable(f"folders in folders, more than {DEEPEST} deep")
            try:
                level = _Level.opened(name, levels[-1].place)
                levels.append(level)
                total += level.look()
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed while we looked
            except PermissionError as error:
                raise Unmeasurable(f"a folder that cannot be looked into ({Path(name).name!r})") from error
    finally:
        for level in levels:
            level.close()
    return total


@dataclass
class _Level:
    """A folder that is being looked into."""

    place: int | None  # its descriptor; None above the first
    folders: list[str]  # in it, still to be looked into

    @classmethod
    def opened(cls, name: str, above: int | None) -> _Level:
        """That of this name in the folder above. Raises OSError."""
        return cls(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above), [])

    def look(self) -> int:
        """Find the folders in it; gives the bytes that it and the files in it take up. Raises OSError."""
        assert self.place is not None  # noqa: S101  # opened
        total = _occupied(os.fstat(self.place))
        with os.scandir(self.place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self.folders.append(entry.name)
                    continue
                with suppress(FileNotFoundError):  # removed while we looked
                    total += _occupied(entry.stat(follow_symlinks=False))
        return total

    def close(self) -> None:
        """Nobody looks into it any more."""
        if self.place is not None:
            os.close(self.place)


def _occupied(status: os.stat_result) -> int:
    return status.st_blocks * 512


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _proportional(process: psutil.Process) -> int:
    """Resident memory, with a page that n processes share counted as 1/n; all of it where we may not look closer."""
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return _resident(process)  # it has made itself one that cannot be looked into: PR_SET_DUMPABLE of prctl(2)
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", full.rss))


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
