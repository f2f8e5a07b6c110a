"""A report whose every figure is written down here, and what of any report is the same whenever it is made."""

from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.job import Recipe
from modelpress.spec.network import NetworkSummary
from modelpress.spec.report import Accuracy, Latency, Measurement, Provenance, Ratios, Report, Stage
from modelpress.spec.steps import Prune
from tests.support.rows import ARCHITECTURE

BASELINE = Measurement(
    measured_on="file",
    parameters=1_000,
    nonzero_parameters=1_000,
    macs=50_000,
    stored_bytes={"safetensors": 4_000, "onnx": 4_400},
    accuracy=Accuracy(top1=0.9, top5=0.99, loss=0.31, examples=200),
    latencies=(Latency(runtime="onnxruntime", threads=1, batch=1, p50_ms=2.0, p90_ms=2.5),),
    peak_memory_bytes=123_456_789_012,
)
AFTER_STEP = Measurement(
    measured_on="memory",
    parameters=1_000,
    nonzero_parameters=250,
    macs=50_000,
    accuracy=Accuracy(top1=0.88, top5=0.98, loss=float("inf"), examples=200),
)
FINAL = Measurement(
    measured_on="file", parameters=1_000, nonzero_parameters=250, macs=50_000, stored_bytes={"compact": 1_100}
)


def a_report() -> Report:
    """One step; the loss after it is infinite, the latency ratio was not measured."""
    recipe = Recipe(steps=(Prune(sparsity=0.75),))
    return Report(
        network=NetworkSummary(architecture=ARCHITECTURE, input_shape=(3, 32, 32)),
        baseline=BASELINE,
        stages=(Stage(index=0, kind="prune", seconds=1.5, measurement=AFTER_STEP),),
        final=FINAL,
        ratios=Ratios(
            stored_bytes=4_000 / 1_100,
            parameters=1.0,
            nonzero_parameters=4.0,
            macs=1.0,
            latency=None,
            accuracy_retention=0.98,
        ),
        proofs=(),
        provenance=Provenance(
            modelpress_version="0",
            model_sha256="0" * 64,
            dataset_sha256=None,
            recipe=recipe,
            versions={"python": "3.11"},
            machine={"cores": 2},
            started_at="2026-01-01T00:00:00Z",
            seconds=3.0,
        ),
    )


def said(report: Report, *, nearly: bool = False) -> Any:
    """What a report says but for what a clock has measured.

    Where it is what another should equal, `nearly`: last digits of sums over images depend on where the memory of
    each process lies.
    """

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            timed = ("seconds", "started_at", "latencies", "latency", "images_per_second", "time_share")
            timed = (*timed, "peak_memory_bytes", "final_loss")
            return {key: strip(one) for key, one in value.items() if key not in timed}
        if isinstance(value, list):
            return [strip(one) for one in value]
        return pytest.approx(value, rel=1e-4) if nearly and isinstance(value, float) else value

    return strip(report.model_dump(mode="json"))
