"""Ratios and goals, by hand."""

from __future__ import annotations

import pytest

from modelpress.engine.ratios import check_goal, compare, compare_file
from modelpress.spec.failure import GoalNotMet
from modelpress.spec.job import ArtifactKind, Goal
from modelpress.spec.report import Accuracy, ArtifactProof, Latency, Measurement


def _accuracy(top1: float | None) -> Accuracy | None:
    return None if top1 is None else Accuracy(top1=top1, top5=1.0, loss=0.5, examples=100)


def _latency(p50: float, runtime: str = "onnxruntime", precision: str = "fp32", batch: int = 1) -> Latency:
    return Latency.model_validate(
        {"runtime": runtime, "precision": precision, "threads": 1, "batch": batch, "p50_ms": p50, "p90_ms": 2 * p50}
    )


def _measurement(
    parameters: int, nonzero: int, stored: dict[str, int], top1: float | None, *latencies: Latency
) -> Measurement:
    return Measurement(
        measured_on="file",
        parameters=parameters,
        nonzero_parameters=nonzero,
        macs=parameters * 10,
        stored_bytes=stored,
        accuracy=_accuracy(top1),
        latencies=latencies,
    )


BASELINE = _measurement(
    1000, 1000, {"safetensors": 4000}, 0.8, _latency(90.0, batch=32), _latency(20.0, "pytorch"), _latency(6.0)
)
FINAL = _measurement(
    500,
    125,
    {"compact": 400, "safetensors": 2000, "onnx": 2100, "onnx_int8": 100},
    0.6,
    _latency(30.0, batch=32),
    _latency(5.0, "pytorch"),
    _latency(2.0),
    _latency(0.5, precision="int8"),
)


def _proof(kind: str, top1: float | None) -> ArtifactProof:
    proof = ArtifactProof(
        kind=kind,
        file=f"model.{kind}",
        bytes=FINAL.stored_bytes[kind],
        sha256="0" * 64,
        largest_difference=0.0,
        tolerance=1.0,
        accuracy=_accuracy(top1),
    )
    return proof.model_copy(update={"ratios": compare_file(BASELINE, FINAL, proof)})


COMPACT, ONNX, INT8 = _proof("compact", 0.6), _proof("onnx", 0.6), _proof("onnx_int8", 0.4)


def test_without_a_file_for_onnx_runtime_the_speed_is_that_in_pytorch() -> None:
    assert compare(BASELINE, FINAL).latency_runtime == "onnxruntime"
    eager = FINAL.model_copy(update={"latencies": FINAL.latencies[:2]})
    ratios = compare(BASELINE, eager)
    assert (ratios.latency_runtime, ratios.latency) == ("pytorch", 4.0)


def test_ratios_by_hand() -> None:
    ratios = compare(BASELINE, FINAL)
    # The 8-bit file is smaller, and computes something else.
    assert ratios.stored_bytes == 10.0
    assert (ratios.parameters, ratios.nonzero_parameters, ratios.macs, ratios.latency) == (2.0, 8.0, 2.0, 3.0)
    assert ratios.accuracy_retention == pytest.approx(0.75)


def test_each_file_is_compared_in_its_own_runtime() -> None:
    found = [proof.ratios for proof in (COMPACT, ONNX, INT8)]
    assert [ratios and ratios.latency for ratios in found] == [4.0, 3.0, 12.0]
    assert [ratios and ratios.stored_bytes for ratios in found] == [10.0, pytest.approx(4000 / 2100), 40.0]
    assert [ratios and ratios.accuracy_retention for ratios in found] == pytest.approx([0.75, 0.75, 0.5])


def test_the_smallest_of_the_files_that_were_made_counts() -> None:
    only_onnx = FINAL.model_copy(update={"stored_bytes": {"onnx": 2500}})
    assert compare(BASELINE, only_onnx).stored_bytes == 1.6
    only_int8 = FINAL.model_copy(update={"stored_bytes": {"onnx_int8": 800}})
    assert compare(BASELINE, only_int8).stored_bytes == 5.0


def test_what_was_not_measured_has_no_ratio() -> None:
    ratios = compare(BASELINE, FINAL.model_copy(update={"accuracy": None, "latencies": ()}))
    assert ratios.accuracy_retention is None
    assert ratios.latency is None


def test_a_goal_that_is_reached_exactly_is_met() -> None:
    retention = compare(BASELINE, FINAL).accuracy_retention
    check_goal(Goal(min_compression_ratio=10.0, min_accuracy_retention=retention), [COMPACT])
    check_goal(Goal(min_compression_ratio=40.0, min_speed_up=12.0), [COMPACT, ONNX, INT8])
    check_goal(None, [COMPACT])


def test_every_figure_that_falls_short_is_named() -> None:
    with pytest.raises(
        GoalNotMet,
        match=r"^accuracy retention of model\.compact is 0\.7500, at least 0\.96 was asked for and compression ratio",
    ):
        check_goal(Goal(min_accuracy_retention=0.96, min_compression_ratio=12), [COMPACT])
    with pytest.raises(GoalNotMet, match=r"^compression ratio"):
        check_goal(Goal(min_accuracy_retention=0.7, min_compression_ratio=12), [COMPACT])


def test_every_file_has_to_keep_the_accuracy() -> None:
    with pytest.raises(GoalNotMet, match=r"^accuracy retention of model\.onnx_int8 is 0\.5000.*asked for; the files"):
        check_goal(Goal(min_accuracy_retention=0.7), [COMPACT, ONNX, INT8], list(ArtifactKind))


def test_an_8_bit_file_that_nobody_named_counts_where_it_keeps_the_accuracy() -> None:
    check_goal(Goal(min_accuracy_retention=0.7, min_speed_up=3), [COMPACT, ONNX, INT8])
    # Its size and speed are no help where its accuracy is none.
    with pytest.raises(GoalNotMet, match=r"^compression ratio is 10\.000.* and speed-up in ONNX Runtime is 3\.000"):
        check_goal(Goal(min_accuracy_retention=0.7, min_compression_ratio=12, min_speed_up=4), [COMPACT, ONNX, INT8])
    check_goal(Goal(min_accuracy_retention=0.5, min_compression_ratio=40, min_speed_up=12), [COMPACT, ONNX, INT8])
    # Every other file has to keep it all the same.
    with pytest.raises(GoalNotMet, match=r"^accuracy retention of model\.compact .* model\.onnx is 0\.7500"):
        check_goal(Goal(min_accuracy_retention=0.8), [COMPACT, ONNX, INT8])


def test_speed_is_that_in_onnx_runtime() -> None:
    with pytest.raises(GoalNotMet, match=r"^speed-up in ONNX Runtime is 3\.000, at least 3\.5"):
        check_goal(Goal(min_speed_up=3.5), [COMPACT, ONNX])
    with pytest.raises(GoalNotMet, match=r"^speed-up in ONNX Runtime is unknown"):
        check_goal(Goal(min_speed_up=3.5), [COMPACT])
