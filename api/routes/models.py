"""Models: uploaded, looked at, deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from api import examples
from api.dependencies import Caller, Reader, Services, ServicesParam, Writer
from api.errors import problems
from api.openapi import answer, file_body
from api.queries import ListQuery, ModelUpload
from api.refusals import BodyTooLarge, EmptyBody, HashMismatch, MissingScope, NoKey, NotThere, OtherMediaType
from api.resources import to_model
from api.sniff import describes_network, sniff_model
from api.uploads import declared_hash, received_body
from db.errors import InUse
from db.queries import uploads
from modelpress.spec.failure import InvalidModel
from modelpress.spec.resources import Model, Page
from service.stored_bytes import drop_after_delete
from storage.store import StoreFull, StoreUnavailable
from storage.store import Writer as StoreWriter

router = APIRouter(prefix="/v1/models", tags=["models"])

_USUAL = problems(NoKey, MissingScope, RequestValidationError)


@router.post(
    "",
    status_code=201,
    summary="Upload a model",
    response_model=Model,
    openapi_extra=file_body(
        "A network exported by `torch.export` (`.pt2`) or as ONNX; a state dict or checkpoint with `architecture`, "
        "safetensors or saved by PyTorch 1.6 or later; or an artifact of a job, `model.mpz` or `model.safetensors`."
    ),
    responses=answer(201, "It is kept, and being inspected.", examples.UPLOADED_MODEL, "Location")
    | problems(
        NoKey,
        MissingScope,
        BodyTooLarge,
        OtherMediaType,
        RequestValidationError,
        InvalidModel,
        EmptyBody,
        HashMismatch,
        StoreUnavailable,
        StoreFull,
    ),
)
async def upload_model(
    request: Request,
    response: Response,
    services: ServicesParam,
    caller: Writer,
    background: BackgroundTasks,
    query: Annotated[ModelUpload, Query()],
) -> Model:
    """The body is the file itself: `curl --upload-file model.safetensors`, with `-X POST`.

    A state dict is not a network: `architecture` and `arguments` name the one that it belongs to. Exported networks and
    the artifacts of a job say it themselves. The answer comes when the file is kept; whether its weights fit is seen by
    the inspection, a moment later.
    """
    sha256 = declared_hash(query.sha256, request.headers)
    async with received_body(request, services.store, services.settings.upload_limit_bytes, sha256) as writer:
        model = await run_in_threadpool(_keep, services, caller, query, writer)
    background.add_task(services.wakeup.inspections)
    response.headers["Location"] = f"/v1/models/{model.id}"
    return model


@router.get(
    "",
    summary="List models",
    response_model=Page[Model],
    responses=answer(200, "A page of models, newest first.", examples.MODELS) | _USUAL,
)
def list_models(services: ServicesParam, caller: Reader, query: Annotated[ListQuery, Query()]) -> Page[Model]:
    """The team's models, newest first.

    A page has fewer than `limit` of them where their inspections are long; `next` goes on behind the last.
    """
    with services.database.session(read_only=True) as session:
        rows, after = uploads.list_models(session, caller.team_id, after=query.after, limit=query.limit)
    return Page(items=[to_model(row) for row in rows], next=after)


@router.get(
    "/{model_id}",
    summary="Look at a model",
    response_model=Model,
    responses=answer(200, "The model.", examples.MODEL) | _USUAL | problems(NotThere),
)
def get_model(services: ServicesParam, caller: Reader, model_id: str) -> Model:
    """The model with its inspection: what it is, and the layers that each method can treat."""
    with services.database.session(read_only=True) as session:
        row = uploads.get_model(session, caller.team_id, model_id)
    if row is None:
        raise NotThere("model", model_id)
    return to_model(row)


@router.delete(
    "/{model_id}",
    status_code=204,
    summary="Delete a model",
    responses=_USUAL | problems(NotThere, InUse),
)
def delete_model(services: ServicesParam, caller: Writer, model_id: str) -> None:
    """The model and its bytes, unless a job that is not finished uses it. Jobs keep their results."""
    with services.database.session() as session:
        sha256 = uploads.delete_model(session, caller.team_id, model_id)
    drop_after_delete(services.database, services.store, sha256)


def _keep(services: Services, caller: Caller, query: ModelUpload, writer: StoreWriter) -> Model:
    found = sniff_model(writer.path)
    if query.format not in (None, found):
        raise InvalidModel(
            f"the file is {found}, `format` says {query.format}; leave `format` out, or upload the other file"
        )
    if query.reference is None and not describes_network(writer.path, found):
        raise InvalidModel(
            "the file holds weights alone and does not say which network they are for: name it with `architecture`, "
            "and give its `arguments`; `GET /v1/architectures` lists them"
        )
    writer.prepare()
    # Row and bytes appear together: both are there when the session ends well, neither refers to nothing.
    with services.database.session() as session:
        row = uploads.create_model(
            session,
            caller.team_id,
            name=query.name,
            format=found,
            architecture=query.reference,
            image_size=query.image_size,
            preprocessing=query.preprocessing,
            sha256=writer.sha256,
            size=writer.size,
        )
        writer.commit()
    return to_model(row)
