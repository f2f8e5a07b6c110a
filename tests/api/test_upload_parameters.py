"""Uploads that are refused for what they are, or for what is said of them."""

from __future__ import annotations

import httpx
import pytest

from tests.support.api_server import ApiServer
from tests.support.kept import assert_nothing_kept
from tests.support.problems import read_problem
from tests.support.uploads import safetensors_file, zip_file

MODEL = {"architecture": "snn_1k"}


@pytest.mark.parametrize(
    ("path", "params", "content", "slug", "says"),
    [
        ("/v1/models", MODEL, b"", "empty-body", "empty"),
        ("/v1/datasets", {}, b"", "empty-body", "empty"),
        ("/v1/models", MODEL, b"no model", "invalid-model", "neither a safetensors file"),
        ("/v1/models", MODEL, safetensors_file()[:-1], "invalid-model", "truncated"),
        ("/v1/models", MODEL | {"format": "pt"}, safetensors_file(), "invalid-model", "the file is safetensors"),
        ("/v1/models", {}, safetensors_file(), "invalid-model", "name it with `architecture`"),
        ("/v1/datasets", {}, zip_file()[:-1], "invalid-dataset", "truncated"),
        ("/v1/datasets", {}, b"no data", "invalid-dataset", "neither a zip"),
    ],
)
def test_what_cannot_be_used_is_refused(
    server: ApiServer, client: httpx.Client, path: str, params: dict[str, str], content: bytes, slug: str, says: str
) -> None:
    assert says in read_problem(client.post(path, params=params, content=content), 422, slug).detail
    assert_nothing_kept(server)


@pytest.mark.parametrize(
    ("params", "where", "says"),
    [
        ({"arguments": '{"num_classes": 10}'}, "query", "give `architecture` too"),
        ({"architecture": "vg19_bn_cifar"}, "architecture", "did you mean vgg19_bn_cifar"),
        ({"architecture": "timm/resnet50.a1_in1k"}, "architecture", "did you mean timm/resnet50"),
        ({"architecture": "timm/resnet50", "arguments": '{"pretrained": true}'}, "arguments", "no argument pretrained"),
        ({"architecture": "zzzzzz"}, "architecture", "`GET /v1/architectures` lists them"),
        (MODEL | {"arguments": "[1]"}, "arguments", "JSON object"),
        (MODEL | {"arguments": "{"}, "arguments", "no JSON"),
        (MODEL | {"arguments": '{"a": NaN}'}, "arguments", "no JSON"),
        (MODEL | {"arguments": '{"num_classes": "\\ud800"}'}, "arguments", "half of a character in it, \\ud800"),
        (MODEL | {"arguments": '{"a": ' + "[" * 200 + "]" * 200 + "}"}, "arguments", "more than 16 lists and objects"),
        (MODEL | {"arguments": '{"a": "' + "x" * 10_000 + '"}'}, "arguments", "at most 10000 characters"),
        (MODEL | {"arguments": '{"classes": 10}'}, "arguments", "snn_1k takes no argument classes"),
        (MODEL | {"image_size": "0"}, "image_size", "it must be at least 1, not 0"),
        (MODEL | {"image_size": "big"}, "image_size", "it must be a whole number, not big"),
        (MODEL | {"format": "h5"}, "format", "'safetensors', 'pt', 'pt2', 'onnx' or 'compact'"),
        (MODEL | {"mean": "0.5"}, "query", "give both"),
        (MODEL | {"mean": "0.5,0.5", "std": "1"}, "query", "`mean` has 2 numbers"),
        (MODEL | {"mean": "half", "std": "1"}, "mean", "numbers with commas"),
        (MODEL | {"mean": "nan", "std": "1"}, "mean", "must lie between"),
        (MODEL | {"mean": "0", "std": "0"}, "std", "above 0"),
        (MODEL | {"resize": "256"}, "query", "give `mean` and `std` with it"),
        (
            MODEL | {"mean": "0", "std": "1", "resize": "small"},
            "resize",
            "`stretch`, or the pixels of the shorter side",
        ),
        (MODEL | {"mean": "0", "std": "1", "interpolation": "nearest"}, "interpolation", "'bilinear' or 'bicubic'"),
        (MODEL | {"name": "x" * 201}, "name", "at most 200 characters"),
        (MODEL | {"name": "a\0b"}, "name", "U+0000"),
        (MODEL | {"nam": "x"}, "nam", "did you mean `name`?"),
    ],
)
def test_parameters_that_are_wrong(
    server: ApiServer, client: httpx.Client, params: dict[str, str], where: str, says: str
) -> None:
    response = client.post("/v1/models", params=params, content=safetensors_file())
    (error,) = read_problem(response, 422, "invalid-request").errors
    assert error.where == where
    assert says in error.message
    assert_nothing_kept(server)
