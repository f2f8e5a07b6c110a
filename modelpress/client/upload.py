"""Sending a file: hashed first, so that the service refuses anything else than these bytes, then streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelpress.client.connection import Connection, Request
from modelpress.client.errors import ModelPressError

CHUNK = 1 << 20
# The service answers when it has hashed and stored the last byte; a slow disk may take its time.
ANSWER_TIMEOUT = 600.0

UploadProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileDigest:
    """What a file holds."""

    sha256: str
    size: int


def digest(path: Path) -> FileDigest:
    """Hash a file without holding it in memory. Raises ModelPressError when it cannot be read."""
    hasher = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise ModelPressError(f"cannot read {path}: {error.strerror}") from error
    return FileDigest(hasher.hexdigest(), size)


def send_file(
    connection: Connection, route: str, path: Path, params: dict[str, str | int], on_progress: UploadProgress | None
) -> bytes:
    """POST a file as a raw body and return the answer. `on_progress` is told bytes sent and bytes in all."""
    declared = digest(path)
    request = Request(
        "POST",
        route,
        params={**params, "sha256": declared.sha256},
        headers={"Content-Length": str(declared.size), "Content-Type": "application/octet-stream"},
        content=_Body(path, declared.size, on_progress),
        read_timeout=ANSWER_TIMEOUT,
        repeatable=False,
    )
    return connection.send(request).content


class _Body:
    """The file's bytes, from the start again each time a connection is tried."""

    def __init__(self, path: Path, size: int, on_progress: UploadProgress | None) -> None:
        self._path = path
        self._size = size
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        with self._path.open("rb") as file:
            while sent < self._size and (chunk := file.read(min(CHUNK, self._size - sent))):
                yield chunk
                sent += len(chunk)
                if self._on_progress is not None:
                    self._on_progress(sent, self._size)
