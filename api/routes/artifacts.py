"""Artifacts: the files that jobs made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from api.dependencies import Reader, ServicesParam
from api.downloads import file_response
from api.errors import problems
from api.openapi import header_parameters, headers
from api.refusals import MissingScope, NoKey, NotThere, RangeOutside
from db.queries import jobs
from storage.store import NotStored, StoreUnavailable

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

_FILE = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file. `Content-Type` is the artifact's, `ETag` its SHA-256, `Content-Digest` the same "
        "after RFC 9530.",
        "headers": headers("ETag", "Content-Digest", "Repr-Digest", "Accept-Ranges"),
        "content": _FILE,
    },
    206: {
        "description": "The part of it that `Range` names.",
        "headers": headers("ETag", "Content-Range", "Repr-Digest", "Accept-Ranges"),
        "content": _FILE,
    },
    304: {"description": "The caller has it: `If-None-Match` names its `ETag`.", "headers": headers("ETag")},
    **problems(NoKey, MissingScope, NotThere, RangeOutside, RequestValidationError, NotStored, StoreUnavailable),
}


@router.get(
    "/{artifact_id}/content",
    summary="Download an artifact",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=header_parameters(
        Range="One part of the file, `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH`.",
        If_Range="An `ETag`: the part is sent if the file has it, else the whole file.",
        If_None_Match="An `ETag` that the caller has: 304 if the file has it.",
    ),
)
@router.head("/{artifact_id}/content", include_in_schema=False)
def get_content(request: Request, services: ServicesParam, caller: Reader, artifact_id: str) -> Response:
    """The file, whole or in part: `Range` with `If-Range` resumes a download that broke off."""
    with services.database.session(read_only=True) as session:
        row = jobs.get_artifact(session, caller.team_id, artifact_id)
    if row is None:
        raise NotThere("artifact", artifact_id)
    try:
        return file_response(
            services.store,
            row.sha256,
            filename=row.filename,
            content_type=row.content_type,
            headers=request.headers,
            head=request.method == "HEAD",
        )
    except NotStored:
        # Lost, unless its job was deleted since we looked.
        with services.database.session(read_only=True) as session:
            if jobs.get_artifact(session, caller.team_id, artifact_id) is None:
                raise NotThere("artifact", artifact_id) from None
        raise
