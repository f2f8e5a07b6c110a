"""The comparison table."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from modelpress.client.table import result_table
from modelpress.spec.report import Accuracy, ArtifactProof, FileRatios, Latency
from tests.client.reports import make_report


def _cells(measured: bool, name: str) -> list[list[str]]:
    return _printed(result_table({name: make_report(measured=measured)}))


def _printed(table: Table) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [
        [cell.strip() for cell in line.split("┃" if "┃" in line else "│")[1:-1]] for line in lines if "━" not in line
    ]


def test_each_result_is_set_against_the_original() -> None:
    heading, original, result = (row for row in _cells(True, "prune [bold]") if len(row) == 8)
    assert heading == [
        "method", "stored bytes", "compression", "accuracy", "retention", "MACs",
        "latency (ONNX Runtime, 1 thread)", "speed-up",
    ]  # fmt: skip
    assert original == ["original", "8.4 MB", "1x", "90.00%", "100.0%", "222 M", "4 ms", "1x"]
    # A name is text: brackets in it are no markup.
    assert result == ["prune [bold]", "2.1 MB", "4x", "81.00%", "90.0%", "222 M", "2 ms", "2x"]


def test_what_was_not_measured_is_a_dash() -> None:
    _, original, result = (row for row in _cells(False, "prune") if len(row) == 8)
    assert original == ["original", "8.4 MB", "1x", "-", "-", "222 M", "-", "-"]
    assert result == ["prune", "2.1 MB", "4x", "-", "-", "222 M", "-", "-"]


def test_a_result_that_was_timed_elsewhere_is_not_set_against_the_heading() -> None:
    eager = make_report()
    timed = Latency(runtime="pytorch", threads=1, batch=1, p50_ms=3.0, p90_ms=3.5)
    eager = eager.model_copy(
        update={
            "baseline": eager.baseline.model_copy(update={"latencies": (timed,)}),
            "final": eager.final.model_copy(update={"latencies": (timed,)}),
            "ratios": eager.ratios.model_copy(update={"latency": 1.0, "latency_runtime": "pytorch"}),
        }
    )
    heading, _, first, second = (
        row for row in _printed(result_table({"eager": eager, "exported": make_report()})) if len(row) == 8
    )
    assert heading[6] == "latency (eager PyTorch, 1 thread)"
    assert first[6:] == ["3 ms", "1x"]
    assert second[6:] == ["-", "-"]


def test_a_file_that_computes_in_fewer_bits_has_a_line_of_its_own() -> None:
    report = make_report()
    int8 = Latency(runtime="onnxruntime", precision="int8", threads=1, batch=1, p50_ms=0.5, p90_ms=0.6)
    final = report.final.model_copy(
        update={
            "stored_bytes": {**report.final.stored_bytes, "onnx_int8": 2_000_000},
            "latencies": (*report.final.latencies, int8),
        }
    )
    proofs = [_proof("compact"), _proof("onnx_int8"), _proof("of_a_newer_service")]
    table = result_table({"prune": report.model_copy(update={"final": final, "proofs": tuple(proofs)})})
    rows = [row for row in _printed(table) if len(row) == 8]
    # The smaller 8-bit file is not what the network's own line is about.
    assert rows[2] == ["prune", "2.1 MB", "4x", "81.00%", "90.0%", "222 M", "2 ms", "2x"]
    assert rows[3] == ["prune, onnx_int8", "2 MB", "4.2x", "80.00%", "88.9%", "222 M", "0.5 ms", "8x"]
    assert rows[4] == ["prune, of_a_newer_service", "2 MB", "4.2x", "80.00%", "88.9%", "222 M", "-", "8x"]


def _proof(kind: str) -> ArtifactProof:
    return ArtifactProof(
        kind=kind,
        file=kind,
        bytes=2_000_000,
        sha256="0",
        largest_difference=0.0,
        tolerance=1.0,
        accuracy=Accuracy(top1=0.8, top5=1.0, loss=0.1, examples=100),
        ratios=FileRatios(stored_bytes=4.2, latency=8.0, accuracy_retention=0.8 / 0.9),
    )
