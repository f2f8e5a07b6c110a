"""From errors to HTTP: the only place that knows status codes of what goes wrong.

Every answer that is an error is a problem document (RFC 9457), whose `type` is stable. What is not foreseen here is
answered with 500, without the error's own text, which is for the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, JsonValue
from sqlalchemy import exc
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api import refusals
from api.validation import field_errors
from db import errors as database
from modelpress.spec.failure import CompressionError, InvalidDataset, InvalidModel
from modelpress.spec.resources import FieldError, Problem
from storage import store

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5

log = structlog.get_logger("api.errors")


@dataclass(frozen=True)
class Kind:
    """One kind of problem."""

    slug: str  # stable: clients compare it
    title: str
    status: int

    @property
    def type(self) -> str:
        """The problem document's `type`."""
        return f"/problems/{self.slug}"


INTERNAL = Kind("internal", "Something went wrong in the service", 500)
BAD_REQUEST = Kind("bad-request", "The request cannot be read", 400)
NO_SUCH_PATH = Kind("no-such-path", "There is nothing at this address", 404)
NO_SUCH_METHOD = Kind("method-not-allowed", "This address takes other methods", 405)

_NOT_FOUND = Kind("not-found", "There is no such thing", 404)
_INVALID_REQUEST = Kind("invalid-request", "Something in the request is wrong", 422)
_DATABASE_UNAVAILABLE = Kind("database-unavailable", "The database cannot be reached", 503)

KINDS: dict[type[Exception], Kind] = {
    refusals.NoKey: Kind("unauthenticated", "A valid API key is needed", 401),
    refusals.MissingScope: Kind("forbidden", "The API key may not do this", 403),
    refusals.NotThere: _NOT_FOUND,
    refusals.InvalidRequest: _INVALID_REQUEST,
    refusals.UnfitSpec: Kind("incompatible-spec", "The recipe does not fit the model or the data set", 422),
    refusals.NotReady: Kind("not-ready", "The upload has not been inspected yet", 409),
    refusals.UnusableUpload: Kind("rejected-upload", "The upload was rejected", 409),
    refusals.NoReport: Kind("no-report", "The job has no report", 409),
    refusals.BodyTooLarge: Kind("too-large", "The body is too large", 413),
    refusals.EmptyBody: Kind("empty-body", "The body is empty", 422),
    refusals.OtherMediaType: Kind("unsupported-media-type", "The body is of another kind than is taken here", 415),
    refusals.HashMismatch: Kind("hash-mismatch", "The body is not what was declared", 422),
    refusals.RangeOutside: Kind("range-not-satisfiable", "The range lies outside the file", 416),
    RequestValidationError: _INVALID_REQUEST,
    InvalidModel: Kind("invalid-model", "The file is not a model that can be read", 422),
    InvalidDataset: Kind("invalid-dataset", "The file is not a data set that can be read", 422),
    database.NotFound: _NOT_FOUND,
    database.InputDeleted: Kind("input-deleted", "What the job works on was deleted", 409),
    database.InUse: Kind("in-use", "It is still used", 409),
    database.InvalidTransition: Kind("invalid-transition", "The job's state does not allow it", 409),
    database.IdempotencyMismatch: Kind("idempotency-key-reused", "The key was used for another request", 422),
    database.InvalidText: _INVALID_REQUEST,
    store.NotStored: Kind("content-lost", "The file is no longer in the store", 500),
    store.StoreFull: Kind("store-full", "The store has no room left", 507),
    store.StoreUnavailable: Kind("store-unavailable", "The store cannot be reached", 503),
    exc.OperationalError: _DATABASE_UNAVAILABLE,
    exc.InterfaceError: _DATABASE_UNAVAILABLE,
    exc.TimeoutError: _DATABASE_UNAVAILABLE,
    # Nobody is left to read it; only the log and the figures see it.
    ClientDisconnect: Kind("client-gone", "The client went away", 400),
}


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of these families with a problem document."""
    families = (
        refusals.Refusal,
        database.DatabaseError,
        store.StorageError,
        CompressionError,
        RequestValidationError,
        exc.SQLAlchemyError,
        HTTPException,
        ClientDisconnect,
    )
    for family in families:
        app.add_exception_handler(family, _handle)


def internal_problem(request_id: str | None, path: str) -> Response:
    """The answer to an error that nobody foresaw."""
    return _answer(
        INTERNAL,
        f"an error in the service, not in the request; whoever runs it finds the details in its log under {request_id}",
        path=path,
        request_id=request_id,
    )


def problems(*families: type[Exception] | Kind) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these errors: one answer per status, with an example per kind."""
    answers: dict[int | str, dict[str, Any]] = {}
    for family in families:
        kind = family if isinstance(family, Kind) else KINDS[family]
        answer = answers.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        detail = "" if isinstance(family, Kind) else (family.__doc__ or "").partition("\n")[0]
        example = Problem(type=kind.type, title=kind.title, status=kind.status, detail=detail or kind.title)
        answer["content"][MEDIA_TYPE]["examples"][kind.slug] = {"summary": kind.title, "value": _document(example)}
    return answers


async def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _handle_http(request, error)
    kind = next((KINDS[family] for family in type(error).__mro__ if family in KINDS), INTERNAL)
    request_id = getattr(request.state, "request_id", None)
    path = request.url.path
    if kind is INTERNAL:
        log.error("unexpected error", exc_info=error)
        return internal_problem(request_id, path)
    if kind.status >= 500:
        # Foreseen: what the part said is enough, and while it is away every request says it.
        log.error("request failed", problem=kind.slug, error=str(error).partition("\n")[0])
    headers: dict[str, str] = {}
    extra: dict[str, JsonValue] = {}
    errors: tuple[FieldError, ...] = ()
    detail = str(error)
    if isinstance(error, refusals.Refusal) and error.where is not None:
        errors = (FieldError(where=error.where, message=detail),)
    match error:
        case RequestValidationError():
            errors = tuple(field_errors(_validated(request, error), error.errors()))
            detail = _summary(errors)
        case refusals.InvalidRequest():
            errors = error.errors
            detail = _summary(errors)
        case database.InvalidText():
            errors = (FieldError(where=error.field, message=detail),)
        case refusals.NoKey():
            headers["WWW-Authenticate"] = 'Bearer realm="modelpress"'
        case refusals.NotReady():
            headers["Retry-After"] = "1"
        case refusals.BodyTooLarge():
            extra["limit_bytes"] = error.limit
        case refusals.RangeOutside():
            headers["Content-Range"] = f"bytes */{error.size}"
        case exc.SQLAlchemyError():
            # The driver's own words may name hosts and users.
            detail = f"the database does not answer; try again in {RETRY_SECONDS} seconds"
        case store.StoreUnavailable():
            detail = f"the store does not answer; try again in {RETRY_SECONDS} seconds"
        case store.StoreFull():
            detail = "the store has no room left; delete what is not needed, or ask who runs this for more"
        case store.NotStored():
            detail = "the file is no longer in the store; run the job again, or upload the file again"
        case _:
            pass
    if kind.status == 503:
        headers["Retry-After"] = str(RETRY_SECONDS)
    return _answer(kind, detail, path=path, request_id=request_id, errors=errors, extra=extra, headers=headers)


def _handle_http(request: Request, error: HTTPException) -> Response:
    # Raised by the framework: no such path, no such method, a body that broke off while it was read as JSON.
    path, request_id = request.url.path, getattr(request.state, "request_id", None)
    cause = error.__cause__
    if isinstance(cause, refusals.BodyTooLarge):
        return _answer(
            KINDS[refusals.BodyTooLarge],
            str(cause),
            path=path,
            request_id=request_id,
            extra={"limit_bytes": cause.limit},
        )
    kind, detail = {
        404: (NO_SUCH_PATH, f"there is nothing at {path}; /docs lists what there is"),
        405: (NO_SUCH_METHOD, f"{path} does not take {request.method}; /docs lists what it takes"),
    }.get(error.status_code, (BAD_REQUEST, "the request cannot be read; check its body against /docs"))
    return _answer(kind, detail, path=path, request_id=request_id, headers=dict(error.headers or {}))


def _validated(request: Request, error: RequestValidationError) -> type[BaseModel] | None:
    """The class that the body, or the query as a whole, was held against."""
    dependant = request.scope["route"].dependant
    part = error.errors()[0]["loc"][0]
    fields = dependant.body_params if part == "body" else dependant.query_params if part == "query" else []
    annotations = [field.field_info.annotation for field in fields]
    return next((each for each in annotations if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _summary(errors: tuple[FieldError, ...]) -> str:
    first = f"{errors[0].where}: {errors[0].message}"
    return first if len(errors) == 1 else f"{first} (and {len(errors) - 1} more, see `errors`)"


def _answer(
    kind: Kind,
    detail: str,
    *,
    path: str,
    request_id: str | None,
    errors: tuple[FieldError, ...] = (),
    extra: Mapping[str, JsonValue] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=path,
        request_id=request_id,
        errors=errors,
        extra=dict(extra or {}),
    )
    body = problem.model_dump_json(exclude_none=True, exclude_defaults=True)
    return Response(body, status_code=kind.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _document(problem: Problem) -> dict[str, Any]:
    return problem.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
