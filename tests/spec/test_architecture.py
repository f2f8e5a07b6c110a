from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.architecture import MOST_ARGUMENT_CHARACTERS, MOST_ARGUMENT_DEPTH, ArchitectureRef, check_arguments


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return {"a": value}


def test_arguments_of_any_network_are_taken() -> None:
    check_arguments({})
    check_arguments({"num_classes": 10, "cfg": [64, "M", {"kernel": [3, 3]}, None], "größe": "ß𝔸", "p": 0.5})


def test_how_deep_they_may_be() -> None:
    check_arguments(nested(MOST_ARGUMENT_DEPTH))
    for depth in (MOST_ARGUMENT_DEPTH + 1, 200, 100_000):
        given = nested(depth)
        with pytest.raises(ValueError, match="more than 16 lists and objects within one another"):
            check_arguments(given)
        while isinstance(given, list | dict):  # else the interpreter takes it apart within its own calls
            given = given["a"] if isinstance(given, dict) else given[0]


def test_how_long_they_may_be() -> None:
    frame = len('{"a":""}')
    check_arguments({"a": "é" * (MOST_ARGUMENT_CHARACTERS - frame)})
    with pytest.raises(ValueError, match="10,001 characters of JSON, and may take 10,000"):
        check_arguments({"a": "é" * (MOST_ARGUMENT_CHARACTERS - frame + 1)})


@pytest.mark.parametrize("arguments", [{"a": "\ud800"}, {"\udc00": 1}, {"a": [{"b\ud800": 1}]}])
def test_half_of_a_character_cannot_be_stored(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"half of a character in it, \\ud[8c]00, which cannot be stored"):
        check_arguments(arguments)


def test_what_was_stored_before_there_were_bounds_is_read() -> None:
    long = {"a": "x" * 20_000}
    assert ArchitectureRef(architecture="snn_1k", arguments=long).arguments == long
    assert ArchitectureRef(architecture="snn_1k", arguments=nested(30)).arguments == nested(30)
