"""The comparison table."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from modelpress.client.table import in_bytes, in_counts, result_table
from tests.client.reports import make_report


def _cells(measured: bool, name: str) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160)
    console.print(result_table({name: make_report(measured=measured)}))
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


@pytest.mark.parametrize(
    ("count", "bytes_text", "count_text"),
    [
        (0, "0 B", "0"),
        (999, "999 B", "999"),
        (1000, "1 kB", "1 k"),
        (999_499, "999 kB", "999 k"),
        (999_500, "1 MB", "1 M"),
        (20_565_834, "20.6 MB", "20.6 M"),
        (4_000_000_000_000, "4 TB", "4 T"),
    ],
)
def test_three_digits_and_a_unit(count: int, bytes_text: str, count_text: str) -> None:
    assert (in_bytes(count), in_counts(count)) == (bytes_text, count_text)
