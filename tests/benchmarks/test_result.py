"""What a benchmark says of its figures: bounds, files, tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import insert, table
from benchmarks.result import Figure, publish


@pytest.mark.parametrize(
    ("figure", "met", "bound"),
    [
        (Figure("speed", 0.95, at_least=0.95), True, ">= 0.95"),
        (Figure("speed", 0.949, at_least=0.95), False, ">= 0.95"),
        (Figure("seconds", 2.0, "s", at_most=2.0), True, "<= 2"),
        (Figure("seconds", 2.001, "s", at_most=2.0), False, "<= 2"),
        (Figure("files", 0, "files", at_most=0), True, "<= 0"),
        (Figure("told", 7.0), None, ""),
    ],
)
def test_a_bound_is_kept_or_not(figure: Figure, met: bool | None, bound: str) -> None:
    assert figure.met is met
    assert figure.bound == bound


def test_a_result_carries_what_made_it_and_becomes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [Figure("speed", 0.5, at_least=0.95, samples=(0.4, 0.5, 0.6)), Figure("told", 12.0, "MB")]
    publish(tmp_path / "loop.json", "A title", {"batch": 128}, figures)

    assert "A title" in capsys.readouterr().out
    result = json.loads((tmp_path / "loop.json").read_text())
    assert result["benchmark"] == "loop"
    assert result["conditions"] == {"batch": 128}
    assert result["figures"][0]["samples"] == [0.4, 0.5, 0.6]
    assert {"machine", "versions", "command", "commit", "measured_at"} <= set(result)
    assert result["machine"]["processor"]

    lines = table([result]).splitlines()
    assert lines[2].startswith("| `loop` | speed | 0.5 | >= 0.95 | **no** |")
    assert lines[3].startswith("| `loop` | told | 12 MB |  |  |")


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = "before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n"
    once = insert(text, r"a \1 table")
    assert once == "before\n<!-- results: begin -->\na \\1 table\n<!-- results: end -->\nafter\n"
    assert insert(once, r"a \1 table") == once
