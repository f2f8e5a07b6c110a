from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from modelpress.engine.ranks.share import WHOLE, Share


def parts(images: int, ranks: int, least: int = 1) -> list[list[int]]:
    return [list(range(images))[Share(rank, ranks, least).of(images)] for rank in range(ranks)]


def test_a_batch_of_ten_over_three_and_over_four():
    assert parts(10, 3) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert [len(part) for part in parts(10, 4)] == [2, 3, 2, 3]


def test_who_cannot_get_the_least_sits_out():
    assert parts(3, 4) == [[0], [1], [2], []]
    assert parts(5, 4, least=2) == [[0, 1], [2, 3, 4], [], []]
    assert parts(1, 4, least=2) == [[0], [], [], []]


def test_one_process_has_all():
    assert list(range(7))[WHOLE.of(7)] == list(range(7))


@given(images=st.integers(1, 200), ranks=st.integers(1, 16), least=st.integers(1, 4))
def test_the_parts_make_up_the_batch_evenly(images: int, ranks: int, least: int):
    dealt = parts(images, ranks, least)
    assert list(chain.from_iterable(dealt)) == list(range(images))
    counts = [len(part) for part in dealt if part]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= min(least, images)
    assert dealt[0]
