"""Reports with figures that are easy to divide."""

from __future__ import annotations

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import Recipe
from modelpress.spec.network import NetworkSummary
from modelpress.spec.report import Accuracy, Latency, Measurement, Provenance, Ratios, Report
from modelpress.spec.steps import Prune


def make_report(*, measured: bool = True) -> Report:
    """8.4 MB at 90% and 4 ms, to 2.1 MB at 81% and 2 ms; without accuracy and latency where not `measured`."""
    return Report(
        network=NetworkSummary(architecture=ArchitectureRef(architecture="nin_cifar"), input_shape=(3, 32, 32)),
        baseline=_measurement({"safetensors": 8_400_000}, 0.9, 4.0, measured),
        stages=(),
        final=_measurement({"compact": 2_100_000, "safetensors": 8_400_100, "onnx": 8_500_000}, 0.81, 2.0, measured),
        ratios=Ratios(
            stored_bytes=4.0,
            parameters=1.0,
            nonzero_parameters=4.0,
            macs=1.0,
            latency=2.0 if measured else None,
            accuracy_retention=0.9 if measured else None,
        ),
        proofs=(),
        provenance=Provenance(
            modelpress_version="0",
            model_sha256="0",
            dataset_sha256=None,
            recipe=Recipe(steps=(Prune(sparsity=0.75),)),
            versions={},
            machine={},
            started_at="2026-01-01T00:00:00Z",
            seconds=1.0,
        ),
    )


def _measurement(stored: dict[str, int], top1: float, milliseconds: float, measured: bool) -> Measurement:
    return Measurement(
        measured_on="file",
        parameters=2_100_000,
        nonzero_parameters=2_100_000,
        macs=222_498_000,
        stored_bytes=stored,
        accuracy=Accuracy(top1=top1, top5=1.0, loss=0.1, examples=100) if measured else None,
        latencies=(Latency(runtime="onnxruntime", threads=1, batch=1, p50_ms=milliseconds, p90_ms=9.0),)
        if measured
        else (),
    )
