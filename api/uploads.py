"""Bodies on their way into the store: hashed while they are written, in a thread, while the next piece is received."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request

from api.refusals import EmptyBody, HashMismatch, InvalidRequest, OtherMediaType
from modelpress.spec.resources import FieldError
from storage.store import PIECE_BYTES, NotAHash, Store, Writer, require_hash

HASH_HEADER = "X-Content-SHA256"
DIGEST_HEADER = "Content-Digest"


def declared_hash(query: str | None, headers: Headers) -> str | None:
    """The SHA-256 that the caller says the body has: by query or header. Raises InvalidRequest."""
    declared = {
        "sha256": _hex("sha256", query),
        HASH_HEADER: _hex(HASH_HEADER, headers.get(HASH_HEADER)),
        DIGEST_HEADER: _digest(headers.get(DIGEST_HEADER)),
    }
    given = {where: value for where, value in declared.items() if value is not None}
    if len(set(given.values())) > 1:
        raise InvalidRequest([FieldError(where=" and ".join(given), message="they declare different hashes; give one")])
    return next(iter(given.values()), None)


@asynccontextmanager
async def received_body(request: Request, store: Store, limit: int, sha256: str | None) -> AsyncIterator[Writer]:
    """The whole body, received and checked but not committed: nothing is kept unless the caller commits it.

    Raises BodyTooLarge while it streams, EmptyBody, HashMismatch, OtherMediaType, the store's errors, and
    starlette's ClientDisconnect when the body breaks off.
    """
    _require_raw(request.headers)
    request.state.body_limit = limit
    opened = store.open_writer()
    writer = await run_in_threadpool(opened.__enter__)
    try:
        await _receive(request, writer)
        if writer.size == 0:
            raise EmptyBody("the body is empty; send the file itself as the body: `curl --upload-file FILE`, say")
        if sha256 is not None and writer.sha256 != sha256:
            raise HashMismatch(
                f"the body has the SHA-256 {writer.sha256}, declared was {sha256}; nothing was kept, send it again"
            )
        yield writer
    finally:
        # Removes the temporary file; a task that is being cancelled must not leave it behind.
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(opened.__exit__, None, None, None)


async def _receive(request: Request, writer: Writer) -> None:
    piece = bytearray()
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in request.stream():
            piece += chunk
            if len(piece) >= PIECE_BYTES:
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(run_in_threadpool(writer.write, piece))
                piece = bytearray()
    finally:
        # Whatever happened, nobody closes the file under a thread that writes to it.
        if writing is not None:
            with anyio.CancelScope(shield=True):
                await writing
    if piece:
        await run_in_threadpool(writer.write, piece)


def _require_raw(headers: Headers) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        raise OtherMediaType("forms are not taken; send the file itself as the body: `curl --upload-file FILE`, say")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise OtherMediaType(f"bodies compressed as {coding} are not taken; send the file as it is")


def _hex(where: str, value: str | None) -> str | None:
    try:
        return None if value is None else require_hash(value.strip().lower())
    except NotAHash as error:
        raise InvalidRequest(
            [FieldError(where=where, message="it must be a SHA-256: 64 hexadecimal digits")]
        ) from error


def _digest(value: str | None) -> str | None:
    # RFC 9530: `sha-256=:base64:`, perhaps among others of other algorithms, which are left alone.
    for member in (value or "").split(","):
        algorithm, _, encoded = member.strip().partition("=")
        if algorithm.strip().lower() != "sha-256":
            continue
        try:
            digest = base64.b64decode(encoded.strip().removeprefix(":").removesuffix(":"), validate=True)
        except ValueError:  # binascii.Error, and plain for what is not ASCII
            digest = b""
        if len(digest) != 32:
            raise InvalidRequest([FieldError(where=DIGEST_HEADER, message="it must read `sha-256=:<base64>:`")])
        return digest.hex()
    return None
