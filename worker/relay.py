"""From the engine's events.jsonl to the database: whole lines only, in batches, in order, none twice."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from pydantic import ValidationError

from modelpress.spec.event import ENGINE_EVENT, Checkpointed, EngineEvent, Progress, StageDone, Warned
from worker.workplace import PASSING

INTERVAL_SECONDS = 0.25
LINE_BYTES = 1 << 18
"""Longest line that is taken; a stage's measurement has some hundred bytes."""

FILE_BYTES = 1 << 28
"""How much of the file is read at most: a day of progress has some 40 MB."""

BATCH_EVENTS = 200
_READ_BYTES = 1 << 20

Told = Progress | StageDone | Warned
"""What becomes a row."""

log = structlog.stdlib.get_logger(__name__)


class EventFile:
    """Reads what was added to a file of events since the last time. It is the child's: anything may be in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""  # the beginning of a line that is not whole yet
        self._is_skipping = False  # within a line that is too long

    def read(self) -> tuple[list[EngineEvent], bool]:
        """The next events, of at most a megabyte of the file, and whether that is all there is so far.

        Malformed lines are logged and left out.
        """
        piece = self._read_piece()
        self._offset += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events = [event for line in lines if (event := self._take(line)) is not None]
        if len(self._rest) > LINE_BYTES:
            self._rest, self._is_skipping = b"", True
        return events, not piece

    def _read_piece(self) -> bytes:
        try:
            # A link would make the worker read what the child may not; a pipe would make it wait.
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return b""
        try:
            return os.pread(file, min(_READ_BYTES, FILE_BYTES - self._offset), self._offset)
        except OSError:
            return b""
        finally:
            os.close(file)

    def _take(self, line: bytes) -> EngineEvent | None:
        if self._is_skipping or len(line) > LINE_BYTES:
            self._is_skipping = False
            log.warning("event_skipped", reason="line too long")
            return None
        if not line.strip():
            return None
        try:
            return ENGINE_EVENT.validate_json(line)
        except ValidationError as error:
            log.warning("event_skipped", reason="malformed", problems=error.error_count())
            return None


class Relay:
    """The thread that carries events on. While the database is away they wait in the file."""

    def __init__(
        self, path: Path, append: Callable[[Sequence[Told]], bool], note: Callable[[Checkpointed], None]
    ) -> None:
        """`append` writes events; False when the job is no longer ours. `note` is told of checkpoints."""
        self._file = EventFile(path)
        self._append, self._note = append, note
        self.is_training = False  # by the newest progress
        self._batch: list[EngineEvent] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name="relay", daemon=True
        )

    def start(self) -> None:
        """Begin to carry on."""
        self._thread.start()

    def finish(self) -> None:
        """Say that the file has come to its end. The thread writes what is left; see `finished`."""
        self._ended.set()

    def finished(self, timeout: float) -> bool:
        """Wait for the thread; True when everything was written, or never will be."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        size = 0  # of the batch at work: the very same is tried again, as it may have been written after all
        while True:
            is_last = self._ended.wait(0 if size else INTERVAL_SECONDS)
            is_all = size > 0
            while len(self._batch) < BATCH_EVENTS and not is_all:
                events, is_all = self._file.read()
                self._batch += events
            size = size or min(len(self._batch), BATCH_EVENTS)
            if not size:
                if is_last:
                    return
                continue
            batch = self._batch[:size]
            told = [event for event in batch if not isinstance(event, Checkpointed)]
            try:
                is_ours = not told or self._append(told)
            except PASSING as error:
                log.warning("events_wait", error=type(error).__name__, events=len(self._batch))
                time.sleep(INTERVAL_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001  # whatever the database will not take, the job goes on
                if size > 1:  # nothing of it was written: look for what is refused
                    size //= 2
                    continue
                log.warning("event_skipped", reason="the database refuses it", error=type(error).__name__)
                is_ours = True
            if not is_ours:
                return
            del self._batch[:size]
            size = 0
            for event in batch:
                if isinstance(event, Checkpointed):
                    self._note(event)
                elif isinstance(event, Progress):
                    self.is_training = event.epoch is not None
