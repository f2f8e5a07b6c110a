"""Ids sort by age."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from db import ids


def test_an_id_says_what_it_names_and_when_it_was_made():
    before = time.time_ns() // 1_000_000
    made = ids.new_id("mdl")
    assert re.fullmatch(r"mdl_[0-9a-f]{28}", made)
    assert before <= int(made[4:16], 16) <= time.time_ns() // 1_000_000 + 1


def test_ids_grow_even_within_a_millisecond_and_when_the_clock_goes_back(monkeypatch):
    made = [ids.new_id("job") for _ in range(1_000)]
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)
    made += [ids.new_id("job") for _ in range(1_000)]
    assert made == sorted(set(made))


def test_threads_never_get_the_same_id():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ids.new_id("art"), range(4_000)))
    assert len(set(made)) == 4_000


def test_an_unknown_prefix_is_refused():
    with pytest.raises(KeyError, match="user"):
        ids.new_id("user")
