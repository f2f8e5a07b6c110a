"""Ratios and goals, by hand."""

from __future__ import annotations

import pytest

from modelpress.engine.ratios import check_goal, compare
from modelpress.spec.failure import GoalNotMet
from modelpress.spec.job import Goal
from modelpress.spec.report import Accuracy, Latency, Measurement


def _measurement(parameters: int, nonzero: int, stored: dict[str, int], top1: float | None, p50: float) -> Measurement:
    return Measurement(
        measured_on="file",
        parameters=parameters,
        nonzero_parameters=nonzero,
        macs=parameters * 10,
        stored_bytes=stored,
        accuracy=None if top1 is None else Accuracy(top1=top1, top5=1.0, loss=0.5, examples=100),
        latency=Latency(runtime="onnxruntime", threads=1, batch=1, p50_ms=p50, p90_ms=2 * p50),
    )


BASELINE = _measurement(1000, 1000, {"safetensors": 4000}, 0.8, 6.0)
FINAL = _measurement(500, 125, {"compact": 400, "safetensors": 2000, "onnx": 2100}, 0.6, 2.0)


def test_ratios_by_hand() -> None:
    ratios = compare(BASELINE, FINAL)
    assert ratios.stored_bytes == 10.0
    assert (ratios.parameters, ratios.nonzero_parameters, ratios.macs, ratios.latency) == (2.0, 8.0, 2.0, 3.0)
    assert ratios.accuracy_retention == pytest.approx(0.75)


def test_the_smallest_of_the_files_that_were_made_counts() -> None:
    only_onnx = FINAL.model_copy(update={"stored_bytes": {"onnx": 2500}})
    assert compare(BASELINE, only_onnx).stored_bytes == 1.6


def test_what_was_not_measured_has_no_ratio() -> None:
    ratios = compare(BASELINE, FINAL.model_copy(update={"accuracy": None, "latency": None}))
    assert ratios.accuracy_retention is None
    assert ratios.latency is None


def test_a_goal_that_is_reached_exactly_is_met() -> None:
    ratios = compare(BASELINE, FINAL)
    check_goal(Goal(min_compression_ratio=10.0, min_accuracy_retention=ratios.accuracy_retention), ratios)
    check_goal(None, ratios)


def test_every_figure_that_falls_short_is_named() -> None:
    ratios = compare(BASELINE, FINAL)
    with pytest.raises(
        GoalNotMet, match=r"retention is 0\.7500, at least 0\.96 was asked for and compression ratio is 10"
    ):
        check_goal(Goal(min_accuracy_retention=0.96, min_compression_ratio=12), ratios)
    with pytest.raises(GoalNotMet, match=r"^compression ratio"):
        check_goal(Goal(min_accuracy_retention=0.7, min_compression_ratio=12), ratios)
