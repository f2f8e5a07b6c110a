"""What the engine left in its work folder, read as what it is: files that anyone may have written."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from db.models import LOG_KIND
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind
from modelpress.spec.report import Report
from modelpress.spec.task import ARTIFACTS_FOLDER, LOG_FILE, MODEL_CARD_FILE, REPORT_FILE
from storage.store import Store, Stored

RESULT_BYTES = 64 << 20
"""Longest report that is read."""

MODEL_CARD_KIND = "model_card"


class UnreadableResult(Exception):
    """A file that should be there is not, or is not a plain file, or is not what it should be."""


class ResultTooLong(UnreadableResult):
    """A file is longer than is read."""


@dataclass(frozen=True)
class StoredFile:
    """A file of the work folder, now in the store."""

    kind: str
    path: Path
    content_type: str
    stored: Stored


def read_text(path: Path, most_bytes: int = RESULT_BYTES) -> bytes:
    """The bytes of a small plain file. Raises ResultTooLong, and UnreadableResult for anything else."""
    require_plain(path)
    if path.stat().st_size > most_bytes:
        raise ResultTooLong(f"{path.name} is longer than {most_bytes} bytes")
    return path.read_bytes()


def require_plain(path: Path) -> None:
    """Raises UnreadableResult unless `path` is a plain file of its own: a link would lead out of the work folder."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise UnreadableResult(f"{path.name} is missing") from error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise UnreadableResult(f"{path.name} is not a plain file")


def read_report(folder: Path) -> Report:
    """The engine's report. Raises UnreadableResult."""
    content = read_text(folder / REPORT_FILE)
    try:
        return Report.model_validate_json(content)
    except ValueError as error:
        raise UnreadableResult(f"{REPORT_FILE} is not a report: {error}") from error


def store_artifacts(folder: Path, report: Report, store: Store) -> list[StoredFile]:
    """Put every file that the report proves into the store.

    Raises UnreadableResult when one is missing, or is no longer what was proven. Nobody sees the files yet.
    """
    artifacts = (folder / ARTIFACTS_FOLDER).resolve()
    if artifacts != folder.resolve() / ARTIFACTS_FOLDER:
        raise UnreadableResult(f"{ARTIFACTS_FOLDER} is not a folder of its own")
    files = []
    for proof in report.proofs:
        if Path(proof.file).name != proof.file or proof.kind not in ARTIFACT_FILES:
            raise UnreadableResult(f"the report names a file {proof.file!r} of kind {proof.kind!r}")
        path = artifacts / proof.file
        require_plain(path)
        stored = store.put_file(path)
        if (stored.sha256, stored.size) != (proof.sha256, proof.bytes):
            raise UnreadableResult(f"{proof.file} is not the file that was verified")
        files.append(StoredFile(proof.kind, path, ARTIFACT_FILES[ArtifactKind(proof.kind)].content_type, stored))
    return files


def store_log(folder: Path, store: Store) -> list[StoredFile]:
    """Put the log into the store, where there is one: a list of none or one."""
    return _store_text(LOG_KIND, folder / LOG_FILE, "text/plain; charset=utf-8", store)


def store_model_card(folder: Path, store: Store) -> list[StoredFile]:
    """Put the model card into the store, where there is one: a list of none or one."""
    return _store_text(MODEL_CARD_KIND, folder / MODEL_CARD_FILE, "text/markdown; charset=utf-8", store)


def _store_text(kind: str, path: Path, content_type: str, store: Store) -> list[StoredFile]:
    try:
        require_plain(path)
    except UnreadableResult:
        return []
    return [StoredFile(kind, path, content_type, store.put_file(path))]
