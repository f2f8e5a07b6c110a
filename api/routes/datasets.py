"""Data sets: uploaded, looked at, deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from api import examples
from api.dependencies import Caller, Reader, Services, ServicesParam, Writer
from api.errors import problems
from api.openapi import answer, file_body
from api.queries import DatasetUpload, ListQuery
from api.refusals import BodyTooLarge, EmptyBody, HashMismatch, MissingScope, NoKey, NotThere, OtherMediaType
from api.resources import to_dataset
from api.sniff import sniff_dataset
from api.uploads import declared_hash, received_body
from db.errors import InUse
from db.queries import uploads
from modelpress.spec.failure import InvalidDataset
from modelpress.spec.resources import Dataset, Page
from service.stored_bytes import drop_after_delete
from storage.store import StoreFull, StoreUnavailable
from storage.store import Writer as StoreWriter

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

_USUAL = problems(NoKey, MissingScope, RequestValidationError)


@router.post(
    "",
    status_code=201,
    summary="Upload a data set",
    response_model=Dataset,
    openapi_extra=file_body(
        "A zip or tar of folders of images by class, of images alone, of CIFAR as published, of WebDataset samples or "
        "of Parquet files; a Parquet file; an npz of `images` and `labels`, or an npy of images alone."
    ),
    responses=answer(201, "It is kept, and being inspected.", examples.UPLOADED_DATASET, "Location")
    | problems(
        NoKey,
        MissingScope,
        BodyTooLarge,
        OtherMediaType,
        RequestValidationError,
        InvalidDataset,
        EmptyBody,
        HashMismatch,
        StoreUnavailable,
        StoreFull,
    ),
)
async def upload_dataset(
    request: Request,
    response: Response,
    services: ServicesParam,
    caller: Writer,
    background: BackgroundTasks,
    query: Annotated[DatasetUpload, Query()],
) -> Dataset:
    """The body is the file itself: `curl --upload-file images.zip`, with `-X POST`."""
    sha256 = declared_hash(query.sha256, request.headers)
    async with received_body(request, services.store, services.settings.upload_limit_bytes, sha256) as writer:
        dataset = await run_in_threadpool(_keep, services, caller, query, writer)
    background.add_task(services.wakeup.inspections)
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


@router.get(
    "",
    summary="List data sets",
    response_model=Page[Dataset],
    responses=answer(200, "A page of data sets, newest first.", examples.DATASETS) | _USUAL,
)
def list_datasets(services: ServicesParam, caller: Reader, query: Annotated[ListQuery, Query()]) -> Page[Dataset]:
    """The team's data sets, newest first.

    A page has fewer than `limit` of them where their inspections are long; `next` goes on behind the last.
    """
    with services.database.session(read_only=True) as session:
        rows, after = uploads.list_datasets(session, caller.team_id, after=query.after, limit=query.limit)
    return Page(items=[to_dataset(row) for row in rows], next=after)


@router.get(
    "/{dataset_id}",
    summary="Look at a data set",
    response_model=Dataset,
    responses=answer(200, "The data set.", examples.DATASET) | _USUAL | problems(NotThere),
)
def get_dataset(services: ServicesParam, caller: Reader, dataset_id: str) -> Dataset:
    """The data set with its inspection: classes, number and shape of the images."""
    with services.database.session(read_only=True) as session:
        row = uploads.get_dataset(session, caller.team_id, dataset_id)
    if row is None:
        raise NotThere("data set", dataset_id)
    return to_dataset(row)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a data set",
    responses=_USUAL | problems(NotThere, InUse),
)
def delete_dataset(services: ServicesParam, caller: Writer, dataset_id: str) -> None:
    """The data set and its bytes, unless a job that is not finished uses it."""
    with services.database.session() as session:
        sha256 = uploads.delete_dataset(session, caller.team_id, dataset_id)
    drop_after_delete(services.database, services.store, sha256)


def _keep(services: Services, caller: Caller, query: DatasetUpload, writer: StoreWriter) -> Dataset:
    sniff_dataset(writer.path)
    writer.prepare()
    # Row and bytes appear together: both are there when the session ends well, neither refers to nothing.
    with services.database.session() as session:
        row = uploads.create_dataset(session, caller.team_id, name=query.name, sha256=writer.sha256, size=writer.size)
        writer.commit()
    return to_dataset(row)
