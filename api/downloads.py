"""Files from the store as answers: whole or one range, with the headers that let a client check and resume."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from api.etags import matches
from api.refusals import RangeOutside
from storage.store import Store

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE | re.ASCII)


def file_response(
    store: Store, sha256: str, *, filename: str, content_type: str, headers: Headers, head: bool
) -> Response:
    """The answer that carries an object of the store.

    Not starlette's FileResponse, which knows no store but a folder and answers a bad range with plain text. A range
    that is malformed, or of several parts, is answered with the whole file, as RFC 9110 (14.2) allows.
    Raises NotStored, RangeOutside.
    """
    size = store.size(sha256)
    etag = f'"{sha256}"'
    digest = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    answer = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private",
        # Of the whole file, also when only a part is sent (RFC 9530, section 3).
        "Repr-Digest": digest,
        "Content-Disposition": f"attachment; filename*=utf-8''{quote(filename)}"
        if quote(filename) != filename
        else f'attachment; filename="{filename}"',
    }
    if matches(headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=answer)
    part = _range(headers.get("range"), size) if headers.get("if-range", etag) == etag else None
    start, end = part or (0, size)
    answer["Content-Length"] = str(end - start)
    if part is None:
        answer["Content-Digest"] = digest
    else:
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if part else 200
    if head:
        return Response(status_code=status, headers=answer, media_type=content_type)
    pieces = iterate_in_threadpool(store.read(sha256, start, end))
    return StreamingResponse(pieces, status_code=status, headers=answer, media_type=content_type)


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole file. Raises RangeOutside."""
    asked = _RANGE.fullmatch((header or "").strip())
    if asked is None or asked.group(1, 2) == ("", ""):
        return None
    first, last = asked.group(1, 2)
    if not first:
        suffix = int(last)
        if suffix == 0 or size == 0:
            raise RangeOutside(size)
        return max(0, size - suffix), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeOutside(size)
    return start, min(int(last) + 1, size) if last else size
