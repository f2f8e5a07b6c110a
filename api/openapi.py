"""What the API says of itself: `/openapi.json` and `/docs`."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from modelpress.spec.job import JobSpec
from modelpress.spec.resources import JobEvent, Problem

_REFERENCE = "#/components/schemas/{model}"

DESCRIPTION = """
Upload a trained network, say what should be done to it, watch the job, download a smaller network that was measured
and proven to load.

1. `POST /v1/models` and `POST /v1/datasets` take files as raw bodies. Each upload is inspected: ask for it every second
   or so until its `state` is `ready`, or `rejected` with the reason in `failure`. An upload that is sent twice is two.
2. `POST /v1/jobs` takes a recipe: steps, from `GET /v1/methods`, carried out in order.
3. `GET /v1/jobs/{id}?wait=30` answers when something changes; `/events` streams what happens.
4. `GET /v1/jobs/{id}/report` and `/artifacts` say what came out, `GET /v1/artifacts/{id}/content` is the file.

Every request below `/v1` needs `Authorization: Bearer KEY`; JSON bodies may have 1 MiB. Each may be answered by 503
with `Retry-After`, while the database or the store is away: ask again.

Every error is a problem document (RFC 9457, `application/problem+json`). Its `type` is stable; its `detail` says what
is wrong and what to do; `errors` names each field that is wrong. Every answer carries `X-Request-ID`, which the
service's log has too.
"""

TAGS = [
    {"name": "models", "description": "Trained networks: uploaded, inspected, used by jobs."},
    {"name": "datasets", "description": "Images by class: for training and for measuring accuracy."},
    {"name": "jobs", "description": "Recipes carried out on a model."},
    {"name": "artifacts", "description": "Files that jobs made."},
    {"name": "methods", "description": "What can be asked for."},
    {"name": "health", "description": "For those who run the service; no key needed."},
]


HEADERS = {
    "Location": "Path of what was made.",
    "Idempotency-Replayed": "`true` where the key had made this job before; left out else.",
    "ETag": "Of this answer, for `If-None-Match`.",
    "Content-Digest": "SHA-256 of what is sent (RFC 9530); left out for a part.",
    "Repr-Digest": "SHA-256 of the whole file (RFC 9530).",
    "Content-Range": "Which part it is, and of how many bytes.",
    "Accept-Ranges": "`bytes`: a part can be asked for.",
}
"""Of answers, by name."""


def headers(*names: str) -> dict[str, Any]:
    """Headers of an answer, for a route's `responses`."""
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}


def header_parameters(**described: str) -> dict[str, Any]:
    """Headers of a request that a route reads by itself, with `_` for `-`, for its `openapi_extra`."""
    return {
        "parameters": [
            {"name": name.replace("_", "-"), "in": "header", "schema": {"type": "string"}, "description": description}
            for name, description in described.items()
        ]
    }


def answer(
    status: int, description: str, example: BaseModel | list[Any], *sent: str, **more: Any
) -> dict[int | str, dict[str, Any]]:
    """An answer with its example, and the HEADERS that it is sent with, for a route's `responses`."""
    return {
        status: {
            "description": description,
            **({"headers": headers(*sent)} if sent else {}),
            # As text until it is all put together: FastAPI drops every null from what it is given as data.
            "content": {"application/json": {"example": json.dumps(_plain(example))}},
            **more,
        }
    }


def request_examples(examples: dict[str, JobSpec]) -> dict[str, Any]:
    """Examples of a body."""
    return {
        name.replace(" ", "-").replace(",", ""): {"summary": name, "value": _plain(example, exclude_unset=True)}
        for name, example in examples.items()
    }


def file_body(what: str) -> dict[str, Any]:
    """A body that is a file, for a route's `openapi_extra`."""
    schema = {"type": "string", "format": "binary"}
    return {
        "requestBody": {
            "required": True,
            "description": what,
            "content": {"application/octet-stream": {"schema": schema}},
        }
    }


def install_openapi(app: FastAPI) -> None:
    """Have the application describe its errors as the problem documents that they are."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
            )
            for operations in described["paths"].values():
                for operation in operations.values():
                    _read_examples(operation["responses"])
            schemas = described["components"]["schemas"]
            # No route gives them as its JSON body: errors are of another media type, events are lines of a stream.
            for resource in (Problem, JobEvent):
                schema = resource.model_json_schema(ref_template=_REFERENCE)
                parts = schema.pop("$defs", {})
                schemas |= {resource.__name__: schema} | {name: parts[name] for name in parts.keys() - schemas.keys()}
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # the way FastAPI documents


def _read_examples(responses: dict[str, Any]) -> None:
    for response in responses.values():
        content = response.get("content", {}).get("application/json", {})
        if "example" in content:
            content["example"] = json.loads(content["example"])


def _plain(example: BaseModel | list[Any], *, exclude_unset: bool = False) -> Any:
    return TypeAdapter(type(example)).dump_python(example, mode="json", exclude_unset=exclude_unset)
