"""The comparison table: the original and each result, a line each. One function for all who print it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from modelpress.spec.report import Measurement, Ratios, Report

NOT_MEASURED = "-"


def result_table(reports: Mapping[str, Report], title: str | None = None) -> Table:
    """Results by name, after the original that they share (that of the first report).

    Stored bytes are those of the original's fp32 file and of each result's smallest artifact; latency is the median of
    one image in the runtime that the column names.
    """
    first = next(iter(reports.values()))
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
    table.add_row("original", *_row(first.baseline, None), end_section=True)
    for name, report in reports.items():
        table.add_row(Text(name), *_row(report.final, report.ratios))
    return table


def in_bytes(count: float) -> str:
    """1234567 -> 1.23 MB. Decimal units, three digits."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def in_counts(count: float) -> str:
    """1234567 -> 1.23 M."""
    return _scaled(count, ("", "k", "M", "G", "T")).strip()


def _scaled(count: float, units: tuple[str, ...]) -> str:
    # 999.5 rounds to 1000 in three digits, which belongs to the next unit.
    for unit in units[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}" if unit != units[0] or count != int(count) else f"{int(count)} {unit}"
        count /= 1000
    return f"{count:.3g} {units[-1]}"


def _latency_heading(report: Report) -> str:
    latency = report.final.latency or report.baseline.latency
    if latency is None:
        return "latency"
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    runtime = "ONNX Runtime" if latency.runtime == "onnxruntime" else "PyTorch"
    return f"latency ({runtime}, {threads})"


def _row(measured: Measurement, ratios: Ratios | None) -> list[str]:
    smallest = min(measured.stored_bytes.values(), default=None)
    return [
        NOT_MEASURED if smallest is None else in_bytes(smallest),
        "1x" if ratios is None else _times(ratios.stored_bytes),
        NOT_MEASURED if measured.accuracy is None else f"{100 * measured.accuracy.top1:.2f}%",
        _retention(measured, ratios),
        in_counts(measured.macs),
        NOT_MEASURED if measured.latency is None else f"{measured.latency.p50_ms:.3g} ms",
        _speed_up(measured, ratios),
    ]


def _retention(measured: Measurement, ratios: Ratios | None) -> str:
    if ratios is None:
        return NOT_MEASURED if measured.accuracy is None else "100.0%"
    return NOT_MEASURED if ratios.accuracy_retention is None else f"{100 * ratios.accuracy_retention:.1f}%"


def _speed_up(measured: Measurement, ratios: Ratios | None) -> str:
    if ratios is None:
        return NOT_MEASURED if measured.latency is None else "1x"
    return NOT_MEASURED if ratios.latency is None else _times(ratios.latency)


def _times(ratio: float) -> str:
    return f"{ratio:.3g}x" if ratio < 100 else f"{ratio:.0f}x"
