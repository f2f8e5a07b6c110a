from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelpress.engine.data.class_labels import check_classes, check_heldout, counted_classes, number_labels
from modelpress.engine.data.limits import MAX_CLASS_NAME_BYTES, MAX_CLASSES
from modelpress.spec.failure import InvalidDataset

SAMPLES = ["p", "q", "r"]


@pytest.mark.parametrize(
    ("found", "known", "classes", "labels"),
    [
        ([2, 0, None], None, ("0", "1", "2"), [2, 0, -1]),
        ([1, -1, 0], ("x", "y"), ("x", "y"), [1, -1, 0]),
        (["b", None, "a"], None, ("a", "b"), [1, -1, 0]),
        (["b", "a", "b"], ("b", "a", "c"), ("b", "a", "c"), [0, 1, 0]),
        ([None, -1, None], None, (), [-1, -1, -1]),
    ],
)
def test_numbers_and_names(found: list[Any], known: Any, classes: tuple[str, ...], labels: list[int]):
    got, numbers = number_labels(found, SAMPLES, known)
    assert (got, numbers.tolist()) == (classes, labels)


@pytest.mark.parametrize(
    ("found", "known", "message"),
    [
        ([0, "a", 1], None, "p has a number as its label, q a name; use one"),
        ([0, 1, 2], ("x", "y"), "r has the label 2, which is none of the 2 classes"),
        (["a", "b", "c"], ("a", "b"), "r has the label 'c', which is none"),
        ([0, 1, -2], None, "r has the label -2"),
        ([0, 1, 65_536], None, "the largest label is 65536, the limit is 65535"),
        ([0, 1, 1], tuple(map(str, range(65_537))), "more than 65536 classes; use fewer"),
        (["a", "b", "c" * 3_000_000], None, "the names of the classes come to more than 2 MiB together, such as 'ccc"),
        ([0, 1, 1], ("a", "b" * 3_000_000), "the names of the classes come to more than 2 MiB together, such as 'bbb"),
        (["a", "a", None], None, "one class only, 'a'"),
        ([0, 1, 1], ("x", "x"), "two classes have the same name"),
    ],
)
def test_what_is_wrong_is_named(found: list[Any], known: Any, message: str):
    with pytest.raises(InvalidDataset, match=message):
        number_labels(found, SAMPLES, known)


def test_what_is_held_out_has_a_label_unless_nothing_has():
    heldout = np.array([False, False, True])
    check_heldout(np.array([0, -1, 1]), heldout, SAMPLES)
    check_heldout(np.array([-1, -1, -1]), heldout, SAMPLES)
    with pytest.raises(InvalidDataset, match="r is held out and has no label"):
        check_heldout(np.array([0, 1, -1]), heldout, SAMPLES)


def test_classes_at_the_limits_are_taken():
    check_classes(counted_classes(MAX_CLASSES - 1))
    # Two quotes around each, and six characters for each sign that is not ASCII: as the database and the API have it.
    longest = "\u4e00" * ((MAX_CLASS_NAME_BYTES - 5 - 2) // 6)
    check_classes(["abc", longest])
    with pytest.raises(InvalidDataset, match="more than 2 MiB"):
        check_classes(["abc", longest + "\u4e00"])


def test_names_that_are_no_text_are_counted_too():
    """Half of a pair of UTF-16, as numpy's arrays may hold: no encoding knows it."""
    check_classes(["\ud800", "a"])
