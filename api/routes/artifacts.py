"""Artifacts: the files that jobs made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from api.dependencies import Reader, ServicesParam
from api.downloads import file_response
from api.errors import problems
from api.refusals import MissingScope, NoKey, NotThere, RangeOutside
from db.queries import jobs
from storage.store import NotStored, StoreUnavailable

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

_FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file. `ETag` is its SHA-256, `Content-Digest` the same after RFC 9530.",
        "content": _FILE,
    },
    206: {"description": "The part of it that `Range` names.", "content": _FILE},
    304: {"description": "The caller has it: `If-None-Match` names its `ETag`."},
    **problems(NoKey, MissingScope, NotThere, RangeOutside, RequestValidationError, NotStored, StoreUnavailable),
}


@router.get("/{artifact_id}/content", summary="Download an artifact", response_class=Response, responses=_RESPONSES)
@router.head("/{artifact_id}/content", include_in_schema=False)
def get_content(request: Request, services: ServicesParam, caller: Reader, artifact_id: str) -> Response:
    """The file, whole or in part: `Range` with `If-Range` resumes a download that broke off."""
    with services.database.session(read_only=True) as session:
        row = jobs.get_artifact(session, caller.team_id, artifact_id)
    if row is None:
        raise NotThere("artifact", artifact_id)
    return file_response(
        services.store,
        row.sha256,
        filename=row.filename,
        content_type=row.content_type,
        headers=request.headers,
        head=request.method == "HEAD",
    )
