"""The files of a job's checkpoints, as `modelpress/spec/task.py` names them: written, told of, and read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from modelpress.engine.checkpoints.file import read_file, write_file
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint, join, part_of
from modelpress.spec.config import Config
from modelpress.spec.event import Checkpointed, CheckpointPart, EngineEvent
from modelpress.spec.task import CHECKPOINT_FILES, CHECKPOINT_FOLDER, CHECKPOINT_WANTED_FILE, REUSED_FILE

LOG = logging.getLogger(__name__)


class Head(Config):
    """What every file says first."""

    fingerprint: str = Field(description="Of the steps that it is of, the one at work among them.")
    step: int = Field(ge=0, description="Steps that are completed, which is the index of the one at work.")
    seconds: float = Field(ge=0, description="That all attempts together have spent on what it holds.")


# Of the steps whose work a file holds: those that are completed, and the one at work.
_AT_WORK: dict[CheckpointPart, int] = {"steps": 0, "training": 1}


class CheckpointFolder:
    """The checkpoints of the task whose steps have these fingerprints (`modelpress.spec.identity`)."""

    def __init__(self, work: Path, fingerprints: Sequence[str], emit: Callable[[EngineEvent], None]) -> None:
        """`work` is the work folder; item n of `fingerprints` is that of the first n steps."""
        self._folder, self._wanted = work / CHECKPOINT_FOLDER, work / CHECKPOINT_WANTED_FILE
        self._reused = work / REUSED_FILE
        self._fingerprints, self._emit = fingerprints, emit

    def is_wanted(self) -> bool:
        """Whether whoever started the engine waits for a checkpoint. Asked behind each batch: it takes microseconds."""
        return self._wanted.exists()

    def write(
        self,
        part: CheckpointPart,
        parts: Mapping[str, Snapshot],
        *,
        step: int,
        seconds: float,
        is_as_asked: bool = True,
    ) -> None:
        """Write a file in the place of the one before, and tell of it; not `is_as_asked` is of use to this job alone.

        One that cannot be written is logged and no more: the job may well come to its end without it.
        """
        head = Head(fingerprint=self._fingerprints[step + _AT_WORK[part]], step=step, seconds=seconds)
        whole = join({"head": Snapshot(facts=head.model_dump()), **parts})
        try:
            self._folder.mkdir(exist_ok=True)
            write_file(whole, self._path(part))
            told = Checkpointed(part=part)
            if part == "steps" and step > 0 and is_as_asked:
                told = Checkpointed(part=part, steps=step, sha256=_sha256(self._path(part)))
        except OSError as error:
            LOG.warning("no checkpoint: %s", error)
            return
        self._wanted.unlink(missing_ok=True)
        self._emit(told)

    def read(self, part: CheckpointPart) -> tuple[Head, Snapshot] | None:
        """What an earlier attempt left; None where there is no such file. Raises UnusableCheckpoint."""
        if not self._path(part).exists():
            return None
        return self._read(self._path(part), _AT_WORK[part])

    def read_reused(self) -> tuple[Head, Snapshot]:
        """What the first steps of another job made. Raises UnusableCheckpoint."""
        return self._read(self._reused, _AT_WORK["steps"])

    def _read(self, path: Path, at_work: int) -> tuple[Head, Snapshot]:
        whole = read_file(path)
        head = part_of(whole, "head").read(Head)
        if head.fingerprint not in self._fingerprints[head.step + at_work : head.step + at_work + 1]:
            raise UnusableCheckpoint("it belongs to another task, or was made by another version of the engine")
        return head, whole

    def forget(self, *parts: CheckpointPart) -> None:
        """Remove files, where they are there."""
        for part in parts:
            self._path(part).unlink(missing_ok=True)

    def _path(self, part: CheckpointPart) -> Path:
        return self._folder / CHECKPOINT_FILES[part]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
