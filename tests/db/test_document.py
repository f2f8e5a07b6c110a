"""Objects of the spec survive the database."""

from __future__ import annotations

import math

from pydantic import TypeAdapter
from sqlalchemy import literal, select

from db.document import Document
from modelpress.spec.event import EVENT, Progress, StageDone, Warned
from modelpress.spec.report import Report
from tests.support.reports import AFTER_STEP, a_report


def _round_trip(database, value, adapter):
    with database.session(read_only=True) as session:
        return session.scalar(select(literal(value, Document(adapter))))


def test_a_report_comes_back_equal_with_its_infinite_loss(database):
    report = a_report()
    assert math.isinf(report.stages[0].measurement.accuracy.loss)
    assert _round_trip(database, report, TypeAdapter(Report)) == report


def test_events_come_back_as_the_classes_they_were(database):
    for event in (
        StageDone(stage="step", step=0, step_kind="prune", measurement=AFTER_STEP),
        Warned(message="a layer named '\x00' and ünïcode \N{GRINNING FACE}"),
    ):
        assert _round_trip(database, event, EVENT) == event


def test_a_loss_that_is_not_a_number_survives(database):
    progress = Progress(stage="step", step=0, steps=1, fraction=0.5, metrics={"loss": math.nan, "rate": -math.inf})
    back = _round_trip(database, progress, EVENT)
    assert math.isnan(back.metrics["loss"])
    assert back.metrics["rate"] == -math.inf


def test_nothing_is_null(database):
    assert _round_trip(database, None, TypeAdapter(Report)) is None
