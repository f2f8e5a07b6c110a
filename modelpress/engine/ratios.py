"""Original over result, like with like; and whether that is what the goal asks for."""

from __future__ import annotations

from modelpress.spec.failure import GoalNotMet
from modelpress.spec.job import ArtifactKind, Goal
from modelpress.spec.report import Measurement, Ratios


def compare(baseline: Measurement, final: Measurement) -> Ratios:
    """The ratios of a report. `baseline.stored_bytes` has the fp32 safetensors file of the original."""
    retention = None
    if baseline.accuracy is not None and final.accuracy is not None and baseline.accuracy.top1 > 0:
        retention = final.accuracy.top1 / baseline.accuracy.top1
    latency = None
    if baseline.latency is not None and final.latency is not None:
        latency = baseline.latency.p50_ms / final.latency.p50_ms
    return Ratios(
        stored_bytes=baseline.stored_bytes[ArtifactKind.SAFETENSORS] / min(final.stored_bytes.values()),
        parameters=baseline.parameters / final.parameters,
        nonzero_parameters=baseline.nonzero_parameters / max(1, final.nonzero_parameters),
        macs=baseline.macs / max(1, final.macs),
        latency=latency,
        accuracy_retention=retention,
    )


def check_goal(goal: Goal | None, ratios: Ratios) -> None:
    """Raises GoalNotMet, naming each figure that falls short; does nothing without a goal."""
    if goal is None:
        return
    short = []
    if goal.min_accuracy_retention is not None and (
        ratios.accuracy_retention is None or ratios.accuracy_retention < goal.min_accuracy_retention
    ):
        reached = "unknown" if ratios.accuracy_retention is None else f"{ratios.accuracy_retention:.4f}"
        short.append(f"accuracy retention is {reached}, at least {goal.min_accuracy_retention:g} was asked for")
    if goal.min_compression_ratio is not None and ratios.stored_bytes < goal.min_compression_ratio:
        short.append(
            f"compression ratio is {ratios.stored_bytes:.3f}, at least {goal.min_compression_ratio:g} was asked for"
        )
    if short:
        raise GoalNotMet(
            f"{' and '.join(short)}; the files and the report are kept: train longer, compress less where accuracy "
            "falls short or more where size does, or lower the goal"
        )
