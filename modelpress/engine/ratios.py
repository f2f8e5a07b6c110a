"""Original over result, like with like; and whether that is what the goal asks for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from modelpress.spec.failure import GoalNotMet
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind, Goal, Runtime
from modelpress.spec.report import (
    Accuracy,
    ArtifactProof,
    FileRatios,
    Latency,
    Measurement,
    Ratios,
    gives_network_outputs,
)


def compare(baseline: Measurement, final: Measurement) -> Ratios:
    """The ratios of a report. `baseline.stored_bytes` has the fp32 safetensors file of the original."""
    if final.smallest_bytes is None:
        raise ValueError("the result has no files")
    timed = baseline.latency_in("onnxruntime") is not None and final.latency_in("onnxruntime") is not None
    runtime: Runtime = "onnxruntime" if timed else "pytorch"
    return Ratios(
        stored_bytes=baseline.stored_bytes[ArtifactKind.SAFETENSORS] / final.smallest_bytes,
        parameters=baseline.parameters / final.parameters,
        nonzero_parameters=baseline.nonzero_parameters / max(1, final.nonzero_parameters),
        macs=baseline.macs / max(1, final.macs),
        latency=_speed_up(baseline.latency_in(runtime), final.latency_in(runtime)),
        latency_runtime=runtime,
        accuracy_retention=_retention(baseline.accuracy, final.accuracy),
    )


def compare_file(baseline: Measurement, final: Measurement, proof: ArtifactProof) -> FileRatios:
    """The ratios of one file; its latency is among those of `final`."""
    facts = ARTIFACT_FILES[ArtifactKind(proof.kind)]
    return FileRatios(
        stored_bytes=baseline.stored_bytes[ArtifactKind.SAFETENSORS] / proof.bytes,
        latency=_speed_up(baseline.latency_in(facts.runtime), final.latency_in(facts.runtime, facts.precision)),
        accuracy_retention=_retention(baseline.accuracy, proof.accuracy),
    )


def check_goal(
    goal: Goal | None, proofs: Sequence[ArtifactProof], named: Collection[ArtifactKind] | None = None
) -> None:
    """Raises GoalNotMet, naming each figure that falls short; does nothing without a goal.

    Accuracy has to be kept by every file; one of them has to be small enough, and one fast enough. `named` are the
    kinds that the recipe names: an 8-bit file that is made because none are (None) may fall short of the accuracy, and
    is then left out of account, as the user did not ask for what it costs.
    """
    if goal is None:
        return
    wanted = goal.min_accuracy_retention
    if named is None and wanted is not None:
        proofs = [proof for proof in proofs if gives_network_outputs(proof.kind) or _keeps(proof.ratios, wanted)]
    ratios = {proof.file: proof.ratios for proof in proofs if proof.ratios is not None}
    short = []
    if wanted is not None:
        for file, found in ratios.items():
            if not _keeps(found, wanted):
                reached = "unknown" if found.accuracy_retention is None else f"{found.accuracy_retention:.4f}"
                short.append(f"accuracy retention of {file} is {reached}, at least {wanted:g} was asked for")
    if (wanted := goal.min_compression_ratio) is not None:
        best = max(found.stored_bytes for found in ratios.values())
        if best < wanted:
            short.append(f"compression ratio is {best:.3f}, at least {wanted:g} was asked for")
    if (wanted := goal.min_speed_up) is not None:
        speed_ups = [
            proof.ratios.latency
            for proof in proofs
            if ARTIFACT_FILES[ArtifactKind(proof.kind)].runtime == "onnxruntime"
            and proof.ratios is not None
            and proof.ratios.latency is not None
        ]
        if not speed_ups:
            short.append(f"speed-up in ONNX Runtime is unknown, at least {wanted:g} was asked for")
        elif max(speed_ups) < wanted:
            short.append(f"speed-up in ONNX Runtime is {max(speed_ups):.3f}, at least {wanted:g} was asked for")
    if short:
        raise GoalNotMet(
            f"{' and '.join(short)}; the files and the report are kept: train longer, compress less where accuracy "
            "falls short or more where size or speed does, or lower the goal"
        )


def _keeps(found: FileRatios | None, wanted: float) -> bool:
    return found is not None and found.accuracy_retention is not None and found.accuracy_retention >= wanted


def _retention(before: Accuracy | None, after: Accuracy | None) -> float | None:
    if before is None or after is None or before.top1 == 0:
        return None
    return after.top1 / before.top1


def _speed_up(before: Latency | None, after: Latency | None) -> float | None:
    return None if before is None or after is None else before.p50_ms / after.p50_ms
