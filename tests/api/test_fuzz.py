"""Requests that nobody would write by hand: whatever comes, the answer is never a fault of the service."""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import examples
from modelpress.spec.resources import Problem
from tests.support.api_server import ApiServer

FUZZ = settings(
    max_examples=75,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

QUERY_NAMES = (
    *("limit", "after", "state", "model", "wait", "dry_run", "last_event_id", "x"),
    *("name", "architecture", "arguments", "mean", "std", "sha256"),
)
HEADER_NAMES = (
    *("If-None-Match", "Last-Event-ID", "Range", "If-Range", "Idempotency-Key"),
    *("Content-Digest", "X-Content-SHA256", "Content-Type"),
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
words = st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text))


def check(response: httpx.Response) -> None:
    assert response.status_code < 500, f"{response.request.method} {response.request.url}: {response.text}"
    if response.status_code >= 400:
        problem = Problem.model_validate(response.json())
        assert problem.status == response.status_code
        assert problem.detail


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every part of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, each in inner for place in places(each, (*here, key)))]


@pytest.fixture
def ready(server: ApiServer, client: httpx.Client) -> dict[str, str]:
    model, dataset = server.upload_ready(client)
    return {"model": model, "dataset": dataset}


@given(data=st.data())
@FUZZ
def test_a_spec_with_one_part_replaced(client: httpx.Client, ready: dict[str, str], data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(list(examples.SPECS.values())))
    # The inputs are there, so that what passes the validation is held against their inspections too.
    whole = {"spec": copy.deepcopy(spec.model_dump(mode="json", exclude_unset=True)) | ready}
    *path, last = data.draw(st.sampled_from(places(whole)[1:]))
    holder: Any = whole
    for key in path:
        holder = holder[key]
    if data.draw(st.booleans()) or last == "spec":
        holder[last] = data.draw(json_values)
    else:
        holder[data.draw(words) if isinstance(holder, dict) else last] = data.draw(json_values)
    check(client.post("/v1/jobs", params={"dry_run": "true"}, json=whole["spec"]))


@given(
    operation=st.sampled_from(
        [
            ("GET", "/v1/models"),
            ("GET", "/v1/datasets"),
            ("GET", "/v1/jobs"),
            ("GET", "/v1/jobs/{}"),
            ("GET", "/v1/jobs/{}/events"),
            ("GET", "/v1/jobs/{}/log"),
            ("GET", "/v1/models/{}"),
            ("DELETE", "/v1/models/{}"),
            ("POST", "/v1/jobs/{}/cancel"),
            ("GET", "/v1/artifacts/{}/content"),
            ("POST", "/v1/models"),
            ("POST", "/v1/datasets"),
        ]
    ),
    query=st.dictionaries(
        st.sampled_from(QUERY_NAMES),
        words | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["snn_1k", "queued", "{}", "0.5,0.5"]),
        max_size=4,
    ),
    id_=words.filter(bool),
    body=st.binary(max_size=40),
)
@FUZZ
def test_any_query_and_any_id(
    client: httpx.Client, operation: tuple[str, str], query: dict[str, str], id_: str, body: bytes
) -> None:
    method, path = operation
    content = {"content": body} if method == "POST" else {}
    check(client.request(method, path.format(quote(id_, safe="")), params=query, **content))


@given(
    headers=st.dictionaries(
        st.sampled_from(HEADER_NAMES),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
        max_size=4,
    ),
    operation=st.sampled_from(
        [("GET", "/v1/jobs/x"), ("GET", "/v1/jobs/x/events"), ("POST", "/v1/datasets"), ("POST", "/v1/jobs")]
    ),
)
@FUZZ
def test_any_headers(client: httpx.Client, headers: dict[str, str], operation: tuple[str, str]) -> None:
    method, path = operation
    content = {"content": b"{}"} if method == "POST" else {}
    check(client.request(method, path, headers=headers, **content))
