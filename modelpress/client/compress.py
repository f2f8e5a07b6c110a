"""Compression on this machine without a service: the engine alone, as a process on a work folder."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelpress.client.errors import CompressionFailed, InvalidRecipe, ModelPressError
from modelpress.client.upload import digest
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.described_file import COMPACT_MAGIC, is_exported, is_onnx
from modelpress.spec.event import EVENT, Event
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.job import ARTIFACT_FILES, Recipe
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Report
from modelpress.spec.steps import uploaded_students
from modelpress.spec.task import (
    ARTIFACTS_FOLDER,
    ENGINE_ENVIRONMENT,
    EVENTS_FILE,
    FAILURE_FILE,
    INPUTS_FOLDER,
    LOG_FILE,
    MODEL_CARD_FILE,
    REPORT_FILE,
    TASK_FILE,
    Compress,
    DatasetFile,
    ModelFile,
)

POLL_SECONDS = 0.1

# As the system tells of the engine itself, and as the engine tells of a process that it had started.
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
# Between asking the engine to stop and killing it.
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class LocalModel:
    """A model as a file on this machine, with what an upload would say of it."""

    path: Path
    architecture: ArchitectureRef | None = None  # None where the file says it itself, as a job's artifacts do
    image_size: int | None = None  # height and width, where not the architecture's default
    preprocessing: Preprocessing | None = None


def require_engine() -> None:
    """Raise ModelPressError when this installation has no engine."""
    if importlib.util.find_spec("torch") is None:
        raise ModelPressError('this needs the engine: pip install "modelpress[engine]"')


def compress(
    model: LocalModel,
    output: Path,
    recipe: Recipe,
    *,
    dataset: Path | None = None,
    students: Mapping[str, LocalModel] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    processes: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Carry out a recipe on local files; artifacts, report, model card and log go to the folder `output`.

    `students` are what students of kind `uploaded` begin as, by the names that the recipe has in place of ids.

    Raises CompressionFailed with the typed failure (the log, and what was written, are in `output` all the same),
    InvalidRecipe when it names other students than are given, ModelPressError when a file cannot be read, when one
    lies in `output` under a name that results have, or the engine is not installed.
    """
    require_engine()
    students = students or {}
    _require_students(recipe, students)
    _require_apart(output, [model.path, *([] if dataset is None else [dataset]), *(s.path for s in students.values())])
    # Before anything is written: a file that cannot be read is refused now.
    hashes = {
        path: digest(path).sha256
        for path in (model.path, dataset, *(student.path for student in students.values()))
        if path is not None
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        # A report is there only when its files are, too.
        (output / REPORT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ModelPressError(f"cannot write into {output}: {error.strerror}") from error
    # Inside the output, so that results are moved and not copied.
    with tempfile.TemporaryDirectory(prefix=".work-", dir=output) as name:
        work = Path(name)
        (work / INPUTS_FOLDER).mkdir()
        task = Compress(
            model=_lay_model(model, work, "model", hashes[model.path]),
            dataset=None
            if dataset is None
            else DatasetFile(path=_lay(dataset, work, "dataset"), sha256=hashes[dataset]),
            recipe=recipe,
            students={
                name: _lay_model(student, work, f"student{number}", hashes[student.path])
                for number, (name, student) in enumerate(students.items())
            },
            device=device,
            threads=threads,
            processes=processes,
        )
        (work / TASK_FILE).write_text(task.model_dump_json())
        try:
            code = _run(work, on_event)
        finally:
            _hand_over(work, output)
        if code != 0:
            raise CompressionFailed(_failure(work, output, code))
        return Report.model_validate_json((output / REPORT_FILE).read_bytes())


def model_format(path: Path) -> ModelFormat:
    """Format by content: a safetensors file begins with the length of its header, then the header's JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(COMPACT_MAGIC):
        return "compact"
    if head[8:] == b"{":
        return "safetensors"
    if is_onnx(head):
        return "onnx"
    if not zipfile.is_zipfile(path):
        return "pt"
    with zipfile.ZipFile(path) as archive:
        return "pt2" if is_exported(archive.namelist()) else "pt"


def _require_students(recipe: Recipe, students: Mapping[str, LocalModel]) -> None:
    named = uploaded_students(recipe.steps)
    for name, where in named.items():
        if name not in students:
            raise InvalidRecipe(f"{where}: {name!r} has no file; give it with --student {name}=FILE:ARCHITECTURE")
    for name in students:
        if name not in named:
            raise InvalidRecipe(
                f"no step of the recipe has the student {{kind: uploaded, model: {name}}} that a file was given for"
            )


def _require_apart(output: Path, given: Iterable[Path]) -> None:
    names = {REPORT_FILE, MODEL_CARD_FILE, LOG_FILE, *(file.filename for file in ARTIFACT_FILES.values())}
    results = {output.resolve() / name for name in names}
    for path in given:
        # As it was named, and what it links to.
        if results & {path.parent.resolve() / path.name, path.resolve()}:
            raise ModelPressError(f"{path} would be overwritten by a result of that name: choose another folder")


def _lay_model(model: LocalModel, work: Path, name: str, sha256: str) -> ModelFile:
    return ModelFile(
        path=_lay(model.path, work, name),
        format=model_format(model.path),
        architecture=model.architecture,
        image_size=model.image_size,
        preprocessing=model.preprocessing,
        sha256=sha256,
    )


def _lay(source: Path, work: Path, name: str) -> str:
    path = f"{INPUTS_FOLDER}/{name}"
    (work / path).symlink_to(source.resolve())
    return path


def _run(work: Path, on_event: Callable[[Event], None] | None) -> int:
    events = _EventTail(work / EVENTS_FILE)
    with (work / LOG_FILE).open("wb") as log:
        # The arguments are ours: this interpreter, this module, the work folder.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "modelpress.engine", str(work)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**ENGINE_ENVIRONMENT, **os.environ},
            # Ctrl-C is for us: we stop the engine ourselves, so that no half-written file is kept.
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                _tell(events, on_event)
                time.sleep(POLL_SECONDS)
            _tell(events, on_event)
        finally:
            _stop(process)
    return process.returncode


def _tell(events: _EventTail, on_event: Callable[[Event], None] | None) -> None:
    for event in events.new():
        if on_event is not None:
            on_event(event)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the engine and what it started (it checks its files in a process of its own)."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _EventTail:
    """Events that were appended since the last look; a line that is still being written waits for the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[Event]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield EVENT.validate_json(line)


def _hand_over(work: Path, output: Path) -> None:
    artifacts = work / ARTIFACTS_FOLDER
    found = [
        *(artifacts.iterdir() if artifacts.is_dir() else ()),
        *(work / name for name in (REPORT_FILE, MODEL_CARD_FILE, LOG_FILE)),
    ]
    for path in found:
        if path.exists():
            path.replace(output / path.name)


def _failure(work: Path, output: Path, code: int) -> Failure:
    try:
        return Failure.model_validate_json((work / FAILURE_FILE).read_bytes())
    except FileNotFoundError:
        if code in _KILLED:
            return Failure(
                kind=FailureKind.OUT_OF_MEMORY,
                message="the engine was killed, most likely because memory ran out; use a smaller batch_size",
            )
        return Failure(kind=FailureKind.INTERNAL, message=f"the engine ended with code {code}; see {output / LOG_FILE}")
