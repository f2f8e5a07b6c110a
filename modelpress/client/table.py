"""The comparison table: the original and each result, a line each. One function for all who print it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from modelpress.spec.figures import NOT_MEASURED, in_bytes, in_counts, in_percent, in_times
from modelpress.spec.job import ARTIFACT_FILES, RUNTIME_NAMES, ArtifactKind, Runtime
from modelpress.spec.report import (
    Accuracy,
    ArtifactProof,
    Latency,
    Measurement,
    Ratios,
    Report,
    gives_network_outputs,
)


def result_table(reports: Mapping[str, Report], title: str | None = None) -> Table:
    """Results by name, after the original that they share (that of the first report).

    Stored bytes are those of the original's fp32 file and of each result's smallest file; latency is the median of one
    image in the runtime that the column names, that of the first report. A file that computes in fewer bits has a line
    of its own.
    """
    first = next(iter(reports.values()))
    runtime = first.ratios.latency_runtime
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("method", no_wrap=True)
    for heading in (
        "stored bytes",
        "compression",
        "accuracy",
        "retention",
        "MACs",
        _latency_heading(first),
        "speed-up",
    ):
        table.add_column(heading, justify="right")
    table.add_row("original", *_row(first.baseline, None, runtime), end_section=True)
    for name, report in reports.items():
        table.add_row(Text(name), *_row(report.final, report.ratios, runtime))
        for proof in report.proofs:
            if not gives_network_outputs(proof.kind) and len(report.proofs) > 1:
                table.add_row(Text(f"{name}, {proof.kind}"), *_file_row(proof, report.final))
    return table


def _latency_heading(report: Report) -> str:
    runtime = report.ratios.latency_runtime
    latency = report.final.latency_in(runtime)
    if latency is None:
        return "latency"
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    return f"latency ({RUNTIME_NAMES[runtime]}, {threads})"


def _row(measured: Measurement, ratios: Ratios | None, runtime: Runtime) -> list[str]:
    """Cells of a result, or of the original, which has no ratios; its latency in `runtime`."""
    latency = measured.latency_in(runtime)
    if ratios is None:
        compression = 1.0
        retention = None if measured.accuracy is None else 1.0
        speed_up = None if latency is None else 1.0
    else:
        compression, retention = ratios.stored_bytes, ratios.accuracy_retention
        speed_up = ratios.latency if ratios.latency_runtime == runtime else None
    return _cells(measured.smallest_bytes, compression, measured.accuracy, retention, measured.macs, latency, speed_up)


def _file_row(proof: ArtifactProof, measured: Measurement) -> list[str]:
    """Cells of one file of a result."""
    ratios = proof.ratios
    latency = None
    if proof.kind in ARTIFACT_FILES:  # a newer service may make files that this version has not heard of
        facts = ARTIFACT_FILES[ArtifactKind(proof.kind)]
        latency = measured.latency_in(facts.runtime, facts.precision)
    return _cells(
        proof.bytes,
        None if ratios is None else ratios.stored_bytes,
        proof.accuracy,
        None if ratios is None else ratios.accuracy_retention,
        measured.macs,
        latency,
        None if ratios is None else ratios.latency,
    )


def _cells(
    size: int | None,
    compression: float | None,
    accuracy: Accuracy | None,
    retention: float | None,
    macs: int,
    latency: Latency | None,
    speed_up: float | None,
) -> list[str]:
    return [
        NOT_MEASURED if size is None else in_bytes(size),
        in_times(compression),
        in_percent(None if accuracy is None else accuracy.top1),
        in_percent(retention, digits=1),
        in_counts(macs),
        NOT_MEASURED if latency is None else f"{latency.p50_ms:.3g} ms",
        in_times(speed_up),
    ]
