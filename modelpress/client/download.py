"""Receiving a file: a partial one is resumed, its hash is checked, and it appears under its name only when whole."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from modelpress.client.connection import RETRY_DELAYS, Connection, Request
from modelpress.client.errors import ConnectionFailed, IntegrityError
from modelpress.client.upload import digest
from modelpress.spec.resources import Artifact

DownloadProgress = Callable[[int, int], None]


def fetch_artifact(
    connection: Connection, artifact: Artifact, folder: Path, on_progress: DownloadProgress | None = None
) -> Path:
    """Put an artifact into `folder` under its own name.

    A file that is already there with the right hash is kept. What an earlier try left (`.<name>.<hash>.part`) is
    resumed. Raises IntegrityError when the bytes are not those the service named, ConnectionFailed when the
    connection breaks again and again without a byte in between.
    """
    target = folder / safe_name(artifact.filename)
    if target.is_file() and target.stat().st_size == artifact.size and digest(target).sha256 == artifact.sha256:
        return target
    part = folder / f".{target.name}.{artifact.sha256[:12]}.part"
    _fill(connection, artifact, part, on_progress)
    found = digest(part)
    if found.sha256 != artifact.sha256:
        part.unlink()
        raise IntegrityError(
            f"{artifact.filename} arrived with SHA-256 {found.sha256}, not {artifact.sha256} as the service said; "
            "it was dropped: download it again"
        )
    part.replace(target)
    return target


def write_whole(target: Path, content: bytes) -> Path:
    """Write a small file so that it is never seen half written."""
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    part.replace(target)
    return target


def safe_name(filename: str) -> str:
    """The name as it is when it stays inside its folder. Raises IntegrityError for `../x`, `/x` and the like."""
    if not filename or filename in {".", ".."} or re.search(r"[/\\\0]", filename):
        raise IntegrityError(f"the service named a file {filename!r}, which is not a plain file name; it was refused")
    return filename


def _fill(connection: Connection, artifact: Artifact, part: Path, on_progress: DownloadProgress | None) -> None:
    """Fetch until `part` is as long as it should be; every round begins where the last one ended."""
    failures = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > artifact.size:
            part.unlink()
            have = 0
        if have == artifact.size and part.exists():
            return
        try:
            _receive(connection, artifact, part, have, on_progress)
            reason = "it ended too early"
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
        grown = part.exists() and part.stat().st_size > have
        if grown:
            failures = 0
        elif failures == len(RETRY_DELAYS):
            raise ConnectionFailed(
                f"the download of {artifact.filename} broke ({reason}); run it again, it goes on at byte {have}"
            )
        else:
            time.sleep(RETRY_DELAYS[failures])
            failures += 1


def _receive(
    connection: Connection, artifact: Artifact, part: Path, have: int, on_progress: DownloadProgress | None
) -> None:
    route = f"/v1/artifacts/{artifact.id}/content"
    headers = {"Accept-Encoding": "identity"}
    if have:
        tag = connection.send(Request("HEAD", route, headers=headers)).headers.get("ETag")
        # Without a strong tag there is no knowing that the rest belongs to what is here.
        if tag is None or tag.startswith("W/"):
            have = 0
        else:
            headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with connection.stream(Request("GET", route, headers=headers)) as response:
        resumed = response.status_code == 206 and _range_start(response) == have
        if not resumed:
            have = 0
        with part.open("ab" if resumed else "wb") as file:
            # In the pieces in which they arrive, so that a broken connection loses none of them.
            for piece in response.iter_raw():
                have += len(piece)
                if have > artifact.size:
                    raise IntegrityError(f"{artifact.filename} is longer than the {artifact.size} bytes it should have")
                file.write(piece)
                if on_progress is not None:
                    on_progress(have, artifact.size)
            file.flush()
            os.fsync(file.fileno())


def _range_start(response: httpx.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else None
