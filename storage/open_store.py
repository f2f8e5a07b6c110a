"""From an address to a store. To add a kind of store: one file beside this one, and one line in `OPENERS`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from storage.local import LocalStore
from storage.s3 import S3Credentials, S3Store
from storage.store import Store


def open_store(url: str, *, credentials: S3Credentials | None = None, spool_folder: Path | None = None) -> Store:
    """The store at an address.

    `file:///folder` is a folder of this machine; `s3://bucket/prefix?endpoint=https://host&region=name` a bucket.
    `spool_folder` is where a remote store keeps files on their way in (default: in the system's temporary folder).
    Raises ValueError for an address that is neither.
    """
    parts = urlsplit(url)
    if parts.scheme not in OPENERS:
        raise ValueError(f"store address {url!r}: begin it with one of {', '.join(f'{s}://' for s in OPENERS)}")
    spool = spool_folder or Path(tempfile.gettempdir()) / "modelpress-spool"
    return OPENERS[parts.scheme](parts, credentials, spool)


def _open_local(parts: SplitResult, credentials: S3Credentials | None, spool_folder: Path) -> Store:  # noqa: ARG001  # one signature for all
    if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
        raise ValueError(f"store address {parts.geturl()!r}: write file:///absolute/path, with three slashes")
    return LocalStore(Path(unquote(parts.path)))


def _open_s3(parts: SplitResult, credentials: S3Credentials | None, spool_folder: Path) -> Store:
    options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    unknown = sorted(set(options) - {"endpoint", "region"})
    if unknown:
        raise ValueError(f"store address: unknown option {', '.join(unknown)}; `endpoint` and `region` are there")
    if not parts.netloc:
        raise ValueError("store address: the bucket is missing; write s3://bucket/prefix")
    return S3Store(
        parts.netloc,
        parts.path.strip("/"),
        spool_folder=spool_folder,
        endpoint=options.get("endpoint", [None])[0],
        region=options.get("region", [None])[0],
        credentials=credentials,
    )


OPENERS: dict[str, Callable[[SplitResult, S3Credentials | None, Path], Store]] = {
    "file": _open_local,
    "s3": _open_s3,
}
