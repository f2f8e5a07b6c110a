from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modelpress.spec.check import select_layers
from modelpress.spec.name_pattern import Names
from modelpress.spec.steps import LayerSelection

NAMES = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.downsample.0", "fc"]
TYPES = dict.fromkeys(NAMES, "Conv2d") | {"fc": "Linear"}

_SINGLE = st.sampled_from(["a", "b", r"\.", ".", "[ab]", "[^a]", r"\d", r"[0-2b]", r"\W"])
_REPEATED = st.builds("".join, st.tuples(_SINGLE, st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])))
_PIECES = st.builds("".join, st.lists(_REPEATED, max_size=4))
_GROUPS = st.builds("({}|{}){}".format, _PIECES, _PIECES, st.sampled_from(["", "?"]))


def matches(name: str, pattern: str) -> bool:
    """Of this name alone."""
    return Names((name,)).matching(pattern) == [name]


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(_PIECES | _GROUPS, max_size=3), names=st.lists(st.text("ab.01", max_size=7), max_size=12))
def test_as_python_s_own_engine_matches(parts: list[str], names: list[str]) -> None:
    expression = "".join(parts)
    assert [matches(name, f"re:{expression}") for name in names] == [
        re.fullmatch(expression, name) is not None for name in names
    ]
    assert Names(names).matching(f"re:{expression}") == [
        name for name in dict.fromkeys(names) if re.fullmatch(expression, name)
    ]


@settings(max_examples=100, deadline=None)
@given(pattern=st.text("ab*?[]!-\\\n", max_size=9), names=st.lists(st.text("ab[]!-\\\n", max_size=6), max_size=9))
def test_globs_as_fnmatch_matches(pattern: str, names: list[str]) -> None:
    assert Names(names).matching(pattern) == [name for name in dict.fromkeys(names) if fnmatchcase(name, pattern)]


def test_names_of_any_characters() -> None:
    names = ["", "\0", "\0\0", "é.0", "层.1", "a\nb"]
    assert Names(names).matching("?") == ["\0"]
    assert Names(names).matching("re:.*[01]") == ["é.0", "层.1"]
    assert Names(names).matching("re:") == [""]
    assert Names(names).matching("a*") == ["a\nb"]
    assert Names([]).matching("a*") == Names([]).matching("*") == []


@pytest.mark.parametrize(("repeat", "lengths"), [("{3}", [3]), ("{2,5}", [2, 3, 4, 5]), ("{7,}", [7, 8]), ("{9}", [])])
def test_counted_characters(repeat: str, lengths: list[int]) -> None:
    names = ["a" * length for length in range(9)]
    assert Names(names).matching(f"re:a{repeat}") == ["a" * length for length in lengths]
    assert matches("b" + "a" * 300, "re:ba{17,299}a")
    assert not matches("b" + "a" * 300, "re:ba{17,298}a")


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        (r"re:layer[12]\.\d+\.conv1", [NAMES[1], NAMES[3]]),
        ("re:(conv1|fc)", ["conv1", "fc"]),
        (r"re:(layer1\.0\.)?conv\d", NAMES[:3]),
        ("re:.*", NAMES),
    ],
)
def test_layers_by_regular_expression(pattern: str, chosen: list[str]) -> None:
    assert select_layers(TYPES, LayerSelection(include=(pattern,))) == chosen
    left = [name for name in NAMES if name not in chosen]
    if left:
        assert select_layers(TYPES, LayerSelection(exclude=(pattern,))) == left


def test_the_whole_name_has_to_match() -> None:
    with pytest.raises(ValueError, match="no layer matches 're:conv'"):
        select_layers(TYPES, LayerSelection(include=("re:conv",)))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("re:(a+)+b", "a repeated group"),
        ("re:(a|a)*b", "a repeated group"),
        (r"re:(a)\1", "groupref"),
        ("re:(?=a)a", "assert"),
        ("re:(?i)a", "flags"),
        ("re:(?i:a)", "flags"),
        ("re:^a", "at"),
        ("re:(", "is no regular expression: missing \\)"),
        ("re:" + "a" * 257, "at most 256 characters, this one 257"),
        ("re:" + "a{0,99999999999999999999}", "is no regular expression"),
    ],
)
def test_expressions_that_are_refused_with_the_request(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LayerSelection(include=(pattern,))
    with pytest.raises(ValidationError, match=message):
        LayerSelection(exclude=(pattern,))


def test_many_stars_end_all_the_same() -> None:
    """A backtracking engine tries 40 choose 20 ways here, 10^11, before it finds that none ends in b."""
    assert not matches("a" * 40, "re:" + "a?" * 60 + ".*" * 30 + "b")


def test_many_patterns_on_many_layers_take_seconds() -> None:
    """One name and one pattern after the other, these took minutes."""
    names = [f"layer{index}." + "ab" * 100 for index in range(2_000)]
    patterns = [rf"re:layer\d*[{index}]?.*" + "(ab?)?[ab]*" * 16 for index in range(300)]
    before = time.process_time()
    chosen = select_layers(dict.fromkeys(names, "Linear"), LayerSelection(include=tuple(patterns)))
    assert chosen == names
    assert time.process_time() - before < 20
