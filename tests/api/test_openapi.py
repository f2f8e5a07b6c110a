"""The documentation is true: its examples are accepted, what it shows fits its schemas, its errors are its errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from api import examples
from api.app import create_app
from api.errors import KINDS, MEDIA_TYPE, NO_SUCH_PATH
from modelpress.spec.event import StageDone
from modelpress.spec.method import METHODS
from modelpress.spec.recipes import NAMES
from modelpress.spec.resources import JobEvent
from service.settings import Settings
from tests.support.api_server import ApiServer
from tests.support.reports import a_report
from tests.support.uploads import npz_file, safetensors_file

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    home = tmp_path_factory.mktemp("home")
    return create_app(Settings(home=home)).openapi()


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def validate(document: Document, schema: Document, value: Any) -> None:
    registry = Registry().with_resource("doc:", Resource.from_contents(document, DRAFT202012))
    pointed = _pointed(schema)
    Draft202012Validator(pointed, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def _pointed(schema: Any) -> Any:
    """The schema with its references made absolute."""
    if isinstance(schema, dict):
        return {
            key: f"doc:{value}" if key == "$ref" and str(value).startswith("#") else _pointed(value)
            for key, value in schema.items()
        }
    return [_pointed(each) for each in schema] if isinstance(schema, list) else schema


def test_every_operation_is_described(document: Document) -> None:
    names = set()
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert len(operation["tags"]) == 1, where
        assert operation["operationId"] not in names, where
        names.add(operation["operationId"])
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                continue
            assert parameter.get("description"), f"{where} {parameter['name']}"
        if path.startswith("/v1/"):
            assert operation["security"] == [{"ApiKey": []}], where
            assert {"401", "403"} <= set(operation["responses"]), where
        else:
            assert "security" not in operation, where
    assert {tag["name"] for tag in document["tags"]} >= {op["tags"][0] for _, _, op in operations(document)}


def test_every_error_is_a_problem_document_with_examples(document: Document) -> None:
    seen = 0
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400 or (path == "/readyz" and status == "503"):
                continue
            content = response["content"]
            assert list(content) == [MEDIA_TYPE], f"{method} {path} {status}"
            for name, example in content[MEDIA_TYPE]["examples"].items():
                validate(document, content[MEDIA_TYPE]["schema"], example["value"])
                assert example["value"]["type"] == f"/problems/{name}"
                assert example["value"]["status"] == int(status)
                seen += 1
    assert seen > 100
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_what_an_event_is_can_be_looked_up(document: Document) -> None:
    event = StageDone(stage="baseline", measurement=a_report().baseline)
    told = JobEvent(id=3, attempt=1, created_at=datetime.now(UTC), event=event)
    validate(document, {"$ref": "#/components/schemas/JobEvent"}, told.model_dump(mode="json"))
    kinds = document["components"]["schemas"]["JobEvent"]["properties"]["event"]["discriminator"]["mapping"]
    assert set(kinds) == {"progress", "stage_done", "warning", "state"}


def test_every_example_of_an_answer_fits_its_schema(document: Document) -> None:
    shown = 0
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json")
            if content is None:
                continue
            assert "example" in content, f"{method} {path} {status}"
            validate(document, content["schema"], content["example"])
            shown += 1
    assert shown >= 18


def test_a_wrong_example_would_be_found(document: Document) -> None:
    schema = {"$ref": "#/components/schemas/Job"}
    good = examples.QUEUED_JOB.model_dump(mode="json")
    validate(document, schema, good)
    from jsonschema import ValidationError

    for wrong in (
        good | {"state": "sleeping"},
        good | {"attempt": "one"},
        {k: v for k, v in good.items() if k != "id"},
    ):
        with pytest.raises(ValidationError):
            validate(document, schema, wrong)


def test_every_example_of_a_request_is_accepted(server: ApiServer, client: httpx.Client, document: Document) -> None:
    upload = document["paths"]["/v1/models"]["post"]
    query = {p["name"]: p["schema"]["examples"][0] for p in upload["parameters"] if p["schema"].get("examples")}
    assert set(query) == {"architecture", "arguments", "image_size", "mean", "std", "resize"}
    response = client.post("/v1/models", params=query, content=safetensors_file())
    assert response.status_code == 201, response.text
    validate(document, {"$ref": "#/components/schemas/Model"}, response.json())
    server.inspect(examples.MODEL.inspection)
    model = response.json()["id"]
    student = client.post("/v1/models", params=query, content=safetensors_file(seed=1)).json()["id"]
    server.inspect(examples.MODEL.inspection)
    response = client.post("/v1/datasets", content=npz_file())
    validate(document, {"$ref": "#/components/schemas/Dataset"}, response.json())
    server.inspect(examples.DATASET.inspection)
    dataset = response.json()["id"]

    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert {spec["value"]["steps"][0]["kind"] for spec in body["examples"].values()} == set(METHODS)
    for name, example in body["examples"].items():
        validate(document, body["schema"], example["value"])
        text = json.dumps(example["value"])
        for shown, uploaded in (
            (examples.MODEL_ID, model),
            (examples.STUDENT_ID, student),
            (examples.DATASET_ID, dataset),
        ):
            text = text.replace(shown, uploaded)
        spec = json.loads(text)
        for params, status, schema in (({"dry_run": "true"}, 200, "JobCheck"), ({}, 202, "Job")):
            response = client.post("/v1/jobs", params=params, json=spec)
            assert response.status_code == status, f"{name}: {response.text}"
            validate(document, {"$ref": f"#/components/schemas/{schema}"}, response.json())


def test_every_answer_of_a_whole_job_fits_its_schema(
    server: ApiServer, client: httpx.Client, document: Document
) -> None:
    model, dataset = server.upload_ready(client)
    spec = {"model": model, "dataset": dataset, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    job = client.post("/v1/jobs", json=spec).json()["id"]
    claimed = server.claim()
    server.keep(claimed, "compact", "model.mpz", b"x", "application/octet-stream")
    server.succeed(claimed)
    for path, template in (
        ("/v1/models", "/v1/models"),
        (f"/v1/models/{model}", "/v1/models/{model_id}"),
        ("/v1/datasets", "/v1/datasets"),
        (f"/v1/datasets/{dataset}", "/v1/datasets/{dataset_id}"),
        ("/v1/jobs", "/v1/jobs"),
        (f"/v1/jobs/{job}", "/v1/jobs/{job_id}"),
        (f"/v1/jobs/{job}/artifacts", "/v1/jobs/{job_id}/artifacts"),
        ("/v1/methods", "/v1/methods"),
        ("/v1/recipes", "/v1/recipes"),
        ("/v1/architectures", "/v1/architectures"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
    ):
        response = client.get(path)
        assert response.status_code == 200, path
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        validate(document, schema, response.json())


def test_every_kind_of_problem_has_a_name_of_its_own() -> None:
    by_slug: dict[str, set[tuple[str, int]]] = {}
    for kind in KINDS.values():
        by_slug.setdefault(kind.slug, set()).add((kind.title, kind.status))
    assert all(len(meanings) == 1 for meanings in by_slug.values())
    assert NO_SUCH_PATH.slug not in by_slug


def test_the_documentation_page_is_there(server: ApiServer) -> None:
    client = server.client()
    page = client.get("/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    # A browser needs no other server for it.
    assert all(address.startswith("/") for address in loaded)
    for address in loaded:
        assert client.get(address).status_code == 200
    assert client.get("/openapi.json").json()["info"]["title"] == "ModelPress"


def test_methods_and_architectures(client: httpx.Client) -> None:
    methods = client.get("/v1/methods").json()
    assert [method["kind"] for method in methods] == list(METHODS)
    for method in methods:
        Draft202012Validator(method["parameters"]).validate(method["example"])
    recipes = client.get("/v1/recipes").json()
    assert [recipe["name"] for recipe in recipes] == list(NAMES)
    architectures = client.get("/v1/architectures").json()
    assert {"vgg19_bn_cifar", "resnet20_cifar", "nin_cifar", "resnet18"} <= {each["name"] for each in architectures}
    timms = client.get("/v1/architectures", params={"family": "timm"}).json()
    assert timms == [each for each in architectures if each["name"].startswith("timm/")]
    assert "timm/resnet50" in {each["name"] for each in timms}
    assert client.get("/v1/architectures", params={"family": "keras"}).status_code == 422
