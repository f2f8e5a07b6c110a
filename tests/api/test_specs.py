"""Specs that are wrong by themselves: each error says where it is and what to do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.problems import read_problem

PRUNE = {"kind": "prune", "sparsity": 0.5}
TRAIN = {"kind": "finetune", "training": {"epochs": 1}}
STUDENT = {"architecture": "nin_cifar"}
NAMED = {"kind": "distill", "student": STUDENT, "training": {"epochs": 1}}
EXPRESSIONS = [f"re:{index}" + "a?" * 100 for index in range(90)]
RANKS = {f"layer{index}": 3 for index in range(20_000)}
JSON = {"Content-Type": "application/json"}
SPEC = {"model": "mdl_any", "dataset": "dts_any", "steps": [PRUNE]}


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"steps": [PRUNE | {"sparsity": 1.5}]}, "steps.0.sparsity", "it must be below 1, not 1.5"),
        ({"steps": [PRUNE | {"sparcity": 1}]}, "steps.0.sparcity", "did you mean `sparsity`?"),
        ({"steps": [{"kind": "prun"}]}, "steps.0.kind", "no kind \"prun\"; it is one of 'prune', 'prune_channels'"),
        ({"steps": [{}]}, "steps.0.kind", "it is required, and is one of 'distill'"),
        ({"steps": []}, "steps", "at least 1 entries"),
        ({"steps": [PRUNE | {"schedule": {"kind": "cubic"}}]}, "steps.0", "give `training`"),
        ({"steps": [TRAIN | {"training": {"epochs": 1.5}}]}, "steps.0.training.epochs", "a whole number, not 1.5"),
        (
            {"steps": [TRAIN | {"training": {"optimizer": "adam"}}]},
            "steps.0.training.optimizer",
            "'sgd' or 'adamw'",
        ),
        ({"steps": [TRAIN | {"training": 5}]}, "steps.0.training", "an object of fields"),
        (
            {"steps": [{"kind": "distill", "student": {"architecture": "nin_cifar", "argments": {}}, "training": {}}]},
            "steps.0.student.argments",
            "did you mean `arguments`?",
        ),
        (
            {"steps": [{"kind": "distill", "student": {"kind": "thinner", "width": 2}, "training": {}}]},
            "steps.0.student.width",
            "it must be below 1, not 2",
        ),
        ({"epochs": 5}, "epochs", "there is no such field; the fields here are `seed`"),
        ({"seed": -1}, "seed", "it must be at least 0, not -1"),
        ({"artifacts": ["onnx", "onnx"]}, "artifacts", "each kind of artifact can be asked for once"),
        (
            {"artifacts": ["tflite"]},
            "artifacts.0",
            "'compact', 'safetensors', 'pt2', 'onnx', 'onnx_int8', 'openvino' or 'executorch'",
        ),
        ({"model": None}, "model", "it must be a text, not null"),
        ({"steps": [NAMED | {"student": STUDENT | {"arguments": {"a": "\ud800"}}}]}, "body", "half of a character"),
        ({"\ud800": 1}, "body", "half of a character"),
        (
            {"steps": [NAMED | {"student": STUDENT | {"arguments": {"a": json.loads("[" * 200 + "]" * 200)}}}]},
            "steps.0.student.arguments",
            "more than 16 lists and objects within one another",
        ),
        (
            {"steps": [NAMED | {"student": STUDENT | {"arguments": {"a": "x" * 20_000}}}]},
            "steps.0.student.arguments",
            "20,008 characters of JSON, and may take 10,000",
        ),
        ({"steps": [PRUNE | {"per_layer": {f"l{i}*": 0.5 for i in range(300)}}]}, "steps", "300 patterns"),
        ({"steps": [PRUNE | {"layers": {"exclude": EXPRESSIONS}}]}, "body", "may have 16,384"),
        (
            {"steps": [{"kind": "factorize", "rank": {"kind": "per_layer", "values": RANKS}}]},
            "body",
            "may take 131,072 bytes as JSON",
        ),
    ],
)
def test_a_spec_that_is_wrong_is_refused(client: httpx.Client, changes: dict[str, Any], where: str, says: str) -> None:
    (error,) = read_problem(
        client.post("/v1/jobs", content=json.dumps(SPEC | changes), headers=JSON), 422, "invalid-request"
    ).errors
    assert error.where == where
    assert says in error.message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"model":', "this is not JSON"),
        (b"[]", "an object of fields"),
        (b"null", "body"),
        (b"", "body"),
        (b"[" * 100_000, "body"),
        (b'{"seed": 1e999}', "seed"),
        (b'{"model": "m", "steps": [{"kind": "prune", "sparsity": 0.5}], "name": "\\ud800"}', "name"),
        (b"\xff\xfe", "body"),
    ],
)
def test_a_body_that_is_no_spec_is_refused(client: httpx.Client, body: bytes, says: str) -> None:
    response = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert says in response.json()["detail"]


def test_a_body_of_another_kind_is_refused(client: httpx.Client) -> None:
    for headers in ({"Content-Type": "text/yaml"}, {}):
        response = client.post("/v1/jobs", content=b"model: x", headers=headers)
        assert "application/json" in read_problem(response, 415, "unsupported-media-type").detail
