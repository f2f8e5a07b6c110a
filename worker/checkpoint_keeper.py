"""The engine's checkpoints on their way into the store, while it works on; and what of them is no longer needed."""

from __future__ import annotations

import contextvars
import os
import stat
import threading
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from db.database import Database
from db.queries import checkpoints
from db.queries.uploads import hold_bytes_unless_held
from modelpress.spec.event import Checkpointed, CheckpointPart
from modelpress.spec.task import CHECKPOINT_FILES, CHECKPOINT_FOLDER
from storage.store import PIECE_BYTES, StorageError, Store, Writer
from worker.workplace import Interrupted

log = structlog.stdlib.get_logger(__name__)


class CheckpointKeeper:
    """A thread that puts what it is told of into the store, the newest of each part alone."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        keep: Callable[[Checkpointed, Writer], bool],
        *,
        limit_bytes: int,
    ) -> None:
        """`keep` makes written bytes the job's checkpoint; False when the job is no longer ours. None is longer."""
        self._folder, self._store, self._keep, self._limit_bytes = folder, store, keep, limit_bytes
        self._changed = threading.Condition()
        self._waiting: dict[CheckpointPart, Checkpointed] = {}  # in the order in which they came
        self._kept: dict[CheckpointPart, int] = {}  # how many of each were put
        self._is_ended = self._is_abandoned = False
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name="checkpoints", daemon=True
        )

    def start(self) -> None:
        """Begin to keep."""
        self._thread.start()

    def note(self, told: Checkpointed) -> None:
        """There is a new file."""
        with self._changed:
            self._waiting[told.part] = told
            self._changed.notify_all()

    def kept(self, part: CheckpointPart) -> int:
        """How many files of this part were kept so far."""
        return self._kept.get(part, 0)

    def finish(self) -> None:
        """No more will come. The thread keeps what it was told of; see `finished`."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """No more is of use, not of what waits either."""
        self._is_abandoned = True
        self.finish()

    def finished(self, timeout: float) -> bool:
        """Wait for the thread; True when it has done all that it will."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (told := self._next()) is not None:
            part = told.part
            try:
                if not self._put(told):
                    return
            except Interrupted:
                return
            # Without it the job goes on, and the next one may have better luck.
            except (StorageError, OSError) as error:
                log.warning("checkpoint_not_kept", part=part, error=str(error))
            except Exception:
                log.exception("checkpoint_broke", part=part)

    def _next(self) -> Checkpointed | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ended)
            if self._is_abandoned or not self._waiting:
                return None
            return self._waiting.pop(next(iter(self._waiting)))

    def _put(self, told: Checkpointed) -> bool:
        part = told.part
        file = open_checkpoint(self._folder, part)
        if file is None:  # gone by what makes it needless, of which we will be told
            return True
        with file, self._store.open_writer() as writer:
            while piece := file.read(PIECE_BYTES):
                if self._is_abandoned:
                    return False
                if writer.size + len(piece) > self._limit_bytes:
                    log.warning("checkpoint_not_kept", part=part, error="it is longer than any file may be")
                    return True
                writer.write(piece)
            writer.prepare()
            if not self._keep(told, writer):
                return False
        self._kept[part] = self.kept(part) + 1
        log.info("checkpoint_kept", part=part, size=writer.size)
        return True


def open_checkpoint(folder: Path, part: CheckpointPart) -> FileIO | None:
    """The file of a part, None where there is no plain one.

    The engine is at work in this folder, and may be anybody's: it is opened step by step, so that no link is followed
    that was put in the way after a look, and no pipe waited for.
    """
    try:
        place = os.open(folder / CHECKPOINT_FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = FileIO(os.open(CHECKPOINT_FILES[part], flags, dir_fd=place))
    except OSError:
        return None
    finally:
        os.close(place)
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return file
    file.close()
    return None


def clear_checkpoints(database: Database, store: Store) -> int:
    """Drop what no attempt will ask for, of whichever job; gives how many files.

    Raises StorageError and sqlalchemy's errors: what is left then is left to the next one who looks.
    """
    with database.session(read_only=True) as session:
        unneeded = checkpoints.unneeded_checkpoints(session)
    return drop_each(database, store, unneeded, checkpoints.drop_checkpoint)


def drop_each(
    database: Database,
    store: Store,
    unneeded: Sequence[tuple[str, str]],
    drop: Callable[[Session, str, str], bool],
) -> int:
    """Drop rows by their ids and hashes, and the bytes of each that nothing else needs; gives how many.

    What somebody else is dropping or storing at the moment is left to whoever looks next.
    """
    number = 0
    for row_id, sha256 in unneeded:
        with database.session() as session:
            if not hold_bytes_unless_held(session, sha256):
                continue
            if drop(session, row_id, sha256):
                store.delete(sha256)
        number += 1
    return number
