"""Times: one clock, whole and comparable on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from sqlalchemy import literal, select, text

from db.clock import UtcTimestamp, now, now_plus


def _ask(database, *expressions):
    with database.session(read_only=True) as session:
        return session.execute(select(*expressions)).one()


def test_now_is_the_time_of_the_statement_in_utc(database):
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # SQLite cuts to milliseconds
    (told,) = _ask(database, now())
    assert told.utcoffset() == timedelta(0)
    assert before <= told <= datetime.now(UTC)


@pytest.mark.parametrize("seconds", [0.0, 0.25, 30.0, -45.5, 86_400.0, -0.125])
def test_now_plus_adds_exactly(database, seconds):
    early, late = _ask(database, now(), now_plus(seconds))
    # Within one statement both see the same moment; SQLite rounds to milliseconds.
    assert late - early == timedelta(seconds=seconds)


def test_time_moves_on_within_a_transaction(database):
    """A lease that is renewed after a long wait for a lock counts from the end of the wait."""
    pause = {"sqlite": None, "postgresql": "SELECT pg_sleep(0.01)"}[database.dialect]
    with database.session(read_only=True) as session:
        first = session.scalar(select(now()))
        second = first
        while second == first:
            if pause:
                session.execute(text(pause))
            second = session.scalar(select(now()))
    assert second > first


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 31, 23, 59, 59, 125_000, tzinfo=UTC),
        datetime(2026, 1, 31, tzinfo=UTC),
        datetime(2026, 2, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_a_moment_comes_back_as_it_was(database, moment):
    (back,) = _ask(database, literal(moment, UtcTimestamp()))
    assert back == moment
    assert back.utcoffset() == timedelta(0)


def test_moments_sort_as_times_do(database):
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=m) for m in (0, 1, 999, 1_000, 60_000, 10**10)]
    for early, late in pairwise(moments):
        (ordered,) = _ask(database, literal(early, UtcTimestamp()) < literal(late, UtcTimestamp()))
        assert ordered


def test_a_time_without_a_zone_is_refused(database):
    with pytest.raises(Exception, match="no time zone"):
        _ask(database, literal(datetime(2026, 1, 1), UtcTimestamp()))
