"""A large upload and download through the API on the embedded default, against the plainest ways to do the same.

Upload: against copying the file in Python with SHA-256. Download: against uvicorn with starlette's FileResponse.
The client is a socket, the same for all. Everything is repeated in turns; medians.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from statistics import median

import psutil

from benchmarks import wire
from benchmarks.result import Figure, arguments, publish
from benchmarks.services import Api, run_api
from db.queries.claims import add_artifact, claim_job
from db.queries.jobs import artifacts
from tests.support.free_port import free_port
from tests.support.processes import running, service_environment, wait_until_ready
from tests.support.rows import Tenant

_PIECE = 1 << 20
_PLACE_OF_SALT = 4096  # within the first image's bytes


def make_file(path: Path, size: int) -> None:
    """A zip of incompressible bytes, `size` long within some hundred bytes; what is in it is never looked at."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        archive.open("a/1.png", "w", force_zip64=True) as image,
    ):
        for _ in range(size // _PIECE):
            image.write(os.urandom(_PIECE))
        image.write(os.urandom(size % _PIECE))


def salt(path: Path) -> None:
    """Other content, so that the store does not know it yet."""
    with path.open("r+b") as file:
        file.seek(_PLACE_OF_SALT)
        file.write(os.urandom(32))
    os.sync()


def copy(source: Path, target: Path, *, durable: bool) -> float:
    """Copy a file with SHA-256, in pieces; gives the seconds. Durable: on the disk when it ends, as an upload is."""
    begin = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(_PIECE):
            digest.update(piece)
            write.write(piece)
        if durable:
            write.flush()
            os.fsync(write.fileno())
    seconds = time.perf_counter() - begin
    target.unlink()
    os.sync()
    return seconds


class MemoryWatch:
    """The most memory that a process held during a block, bytes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.before = self.peak = 0

    def __enter__(self) -> MemoryWatch:
        self.before = self.peak = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            self.peak = max(self.peak, self._process.memory_info().rss)


def offer(api: Api, path: Path) -> str:
    """Make the bytes of the newest upload an artifact of a job; gives its target for a download."""
    tenant = Tenant(api.database, api.team_id)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    job = tenant.submit(tenant.upload_model())
    with api.database.session() as session:
        claimed = claim_job(session, "benchmark", 3600)
        assert claimed is not None
        kind = {"kind": "compact", "filename": "model.mpz", "content_type": "application/octet-stream"}
        assert add_artifact(session, job.id, claimed.attempt, size=path.stat().st_size, sha256=sha256, **kind)
    with api.database.session(read_only=True) as session:
        [artifact] = artifacts(session, job.id)
    return f"/v1/artifacts/{artifact.id}/content"


def main() -> None:
    """Measure, write, print."""
    parser = arguments("transfer", __doc__ or "")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelpress-transfer-") as name:
        folder = Path(name)
        source, small, target = folder / "large.zip", folder / "small.zip", folder / "copy"
        make_file(source, options.megabytes * 1_000_000)
        make_file(small, 1_000_000)
        with run_api(service_environment(home=name), folder) as api:
            key = {"Authorization": f"Bearer {api.key}"}
            wire.send_file(api.port, "/v1/datasets?name=small", small, key)  # whatever is loaded late is loaded now
            size = source.stat().st_size
            copies, durable, uploads, growths = [], [], [], []
            for _ in range(options.rounds):
                salt(source)
                copies.append(copy(source, target, durable=False))
                durable.append(copy(source, target, durable=True))
                with MemoryWatch(api.process.pid) as memory:
                    uploads.append(wire.send_file(api.port, "/v1/datasets?name=large", source, key))
                growths.append((memory.peak - memory.before) / 1e6)
                os.sync()

            content = offer(api, source)
            port = free_port()
            plain = [
                sys.executable,
                "-m",
                "uvicorn",
                "benchmarks.plain_file:app",
                "--port",
                str(port),
                "--no-access-log",
            ]
            log = folder / "plain.log"
            with running(plain, {**os.environ, "PLAIN_FILE": str(source)}, log) as process:
                wait_until_ready(f"http://127.0.0.1:{port}/", process, log)
                ours, theirs = [], []
                for _ in range(options.rounds):
                    theirs.append(wire.receive(port, "/", size, {}))
                    ours.append(wire.receive(api.port, content, size, key))

    upload_ratios = [copied / sent for copied, sent in zip(copies, uploads, strict=True)]
    durable_ratios = [copied / sent for copied, sent in zip(durable, uploads, strict=True)]
    download_ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    speed = options.megabytes
    publish(
        options.output,
        "A large file through the API",
        {"bytes": size, "rounds": options.rounds, "store": "local disk", "database": "SQLite", "client": "a socket"},
        [
            Figure(
                "upload / copy with SHA-256",
                median(upload_ratios),
                at_least=0.5,
                samples=tuple(upload_ratios),
                baseline={
                    "copy_mb_per_second": speed / median(copies),
                    "upload_mb_per_second": speed / median(uploads),
                },
            ),
            Figure(
                "upload / copy with SHA-256 and fsync",
                median(durable_ratios),
                samples=tuple(durable_ratios),
                baseline={"copy_mb_per_second": speed / median(durable)},
            ),
            Figure("growth of the API's process", max(growths), "MB", at_most=50, samples=tuple(growths)),
            Figure(
                "download / plain file response",
                median(download_ratios),
                at_least=0.8,
                samples=tuple(download_ratios),
                baseline={
                    "plain_mb_per_second": speed / median(theirs),
                    "download_mb_per_second": speed / median(ours),
                },
            ),
        ],
    )


if __name__ == "__main__":
    main()
