"""Specs of jobs that are too large, or hold what nothing can keep: refused where they are asked for, and only there."""

from __future__ import annotations

import time
from typing import Any

import pytest

from modelpress.spec.bounds import (
    MOST_PATTERN_CHARACTERS,
    MOST_PATTERNS,
    MOST_SPEC_BYTES,
    check_document,
    spec_errors,
)
from modelpress.spec.job import JobSpec

TRAINING = {"epochs": 1}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "mdl_1", "dataset": "dts_1", "steps": list(steps), **more}


def distill(**arguments: Any) -> dict[str, Any]:
    return {"kind": "distill", "student": {"architecture": "snn_1k", "arguments": arguments}, "training": TRAINING}


def prune(*patterns: str) -> dict[str, Any]:
    return {"kind": "prune", "sparsity": 0.5, "layers": {"include": list(patterns)}}


def errors_of(*steps: dict[str, Any]) -> list[tuple[str, str]]:
    """What is said of a spec that can be read all the same: what is stored has no such bounds."""
    spec = JobSpec.model_validate(document(*steps))
    return [(error.where, error.message) for error in spec_errors(spec)]


def ranks(count: int) -> dict[str, Any]:
    values = {f"encoder.layers.{index}.self_attention.out_proj": 64 for index in range(count)}
    return {"kind": "factorize", "rank": {"kind": "per_layer", "values": values}}


def test_what_people_write_has_no_errors() -> None:
    names = [f"layer{index // 9}.{index % 9}.conv{index % 3}" for index in range(900)]
    quantize = {"kind": "quantize", "bits_per_layer": dict.fromkeys(names, 4), "training": {"teacher": "original"}}
    globs = [f"encoder.layers.{index}.*" for index in range(200)]
    for steps in ([distill(num_classes=10)] * 32, [ranks(1000)], [quantize, prune(*globs), prune(*names)]):
        assert check_document(document(*steps)) == document(*steps)
        assert errors_of(*steps) == []


def test_a_rank_for_each_of_far_too_many_layers() -> None:
    ((where, message),) = errors_of(ranks(2000), ranks(1000))
    assert where == "body"
    assert f"may take {MOST_SPEC_BYTES:,} bytes as JSON" in message
    with pytest.raises(ValueError, match=f"may take {MOST_SPEC_BYTES:,} bytes as JSON"):
        check_document(document(ranks(2000), ranks(1000)))


def test_the_bytes_are_those_of_the_spec_with_its_defaults() -> None:
    spec = document(prune("*"), name="x" * 200)
    without = len(JobSpec.model_validate(document(prune("*"), name="")).model_dump_json())
    # Two bytes each, one character: the document itself is well below the limit.
    spec["model"] = "é" * ((MOST_SPEC_BYTES - without - 200 + len("mdl_1")) // 2)
    assert len(JobSpec.model_validate(spec).model_dump_json().encode()) <= MOST_SPEC_BYTES
    assert spec_errors(JobSpec.model_validate(spec)) == []
    spec["model"] += "é"
    (error,) = spec_errors(JobSpec.model_validate(spec))
    assert "bytes as JSON" in error.message
    check_document(spec)


@pytest.mark.parametrize("field", ["include", "exclude", "per_layer", "bits_per_layer"])
def test_many_patterns_in_all_steps_together(field: str) -> None:
    def step(patterns: list[str]) -> dict[str, Any]:
        if field == "per_layer":
            return {"kind": "prune", "sparsity": 0.5, "per_layer": dict.fromkeys(patterns, 0.5)}
        if field == "bits_per_layer":
            return {"kind": "quantize", "bits_per_layer": dict.fromkeys(patterns, 4)}
        return {"kind": "quantize", "layers": {field: patterns}}

    half = [f"{index}.*" for index in range(MOST_PATTERNS // 2)]
    assert errors_of(step(half), step(half)) == []
    ((where, message),) = errors_of(step(half), step([*half, "re:a|b"]))
    assert where == "steps"
    assert f"they have {MOST_PATTERNS + 1} patterns of layers' names, and may have {MOST_PATTERNS}" in message
    assert errors_of(step(half), step([*half, "layer1.0", "*"])) == []


def test_long_patterns() -> None:
    most = "x" * (MOST_PATTERN_CHARACTERS - 1)
    assert errors_of(prune(f"{most}*")) == []
    ((where, message),) = errors_of(prune(f"{most}*"), prune("a*"))
    assert where == "steps"
    assert f"have {MOST_PATTERN_CHARACTERS + 2:,} characters" in message


def test_regular_expressions_are_counted_before_they_are_read() -> None:
    """Reading them is for the one thread that answers all requests, wherever they are."""
    expressions = [rf"re:{index:03}\.\d[a-z]" + "x" * 85 for index in range(MOST_PATTERN_CHARACTERS // 100)]
    assert {len(expression) for expression in expressions} == {100}
    check_document(document(prune(*expressions)))
    nearly = document(prune(*expressions), {"kind": "quantize", "bits_per_layer": {"re:" + "b" * 97: 4}})
    for spec in (nearly, {"steps": {"deep": [expressions, {"re:" + "b" * 97: 1}]}}):
        with pytest.raises(ValueError, match=f"have {len(expressions) * 100 + 100:,} characters"):
            check_document(spec)


def test_a_large_document_is_refused_at_once() -> None:
    spec = document(*(prune(*(f"re:{index}-{step}" + "a?" * 120 for index in range(120))) for step in range(30)))
    before = time.process_time()
    with pytest.raises(ValueError, match="bytes as JSON"):
        check_document(spec)
    assert time.process_time() - before < 1


def test_a_document_that_is_too_deep() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deep within one another"):
        check_document({"steps": deep})
    while deep:  # else the interpreter takes it apart within its own calls
        (deep,) = deep


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (document(prune("a\ud800b")), "`steps.0.layers.include.0`: "),
        (document(distill(kind="\udfff")), "`steps.0.student.arguments.kind`: "),
        (document({"kind": "quantize", "bits_per_layer": {"\ud800": 4}}), "`steps.0.bits_per_layer`: "),
        (document(prune("*"), **{"\ud800": 1}), ""),
    ],
)
def test_half_of_a_character_is_refused_with_its_place(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match="half of a character") as raised:
        check_document(spec)
    assert str(raised.value).startswith(f"{place}there is half of a character in it, \\ud")
    str(raised.value).encode()


def test_arguments_are_refused_with_their_place() -> None:
    nested: Any = 1
    for _ in range(200):
        nested = [nested]
    found = errors_of(distill(), distill(a=nested), distill(a="x" * 10_000), distill(a=["\ud800"]))
    assert [where for where, _ in found] == [f"steps.{index}.student.arguments" for index in (1, 2, 3)]
    assert "more than 16 lists and objects within one another" in found[0][1]
    assert "10,008 characters of JSON, and may take 10,000" in found[1][1]
    assert "half of a character in it, \\ud800" in found[2][1]
