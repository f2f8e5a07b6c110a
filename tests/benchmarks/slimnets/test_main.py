"""The command: what a stopped run left is written without anything being run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.slimnets.__main__ import main
from benchmarks.slimnets.budget import final_jobs
from benchmarks.slimnets.finished import carry_out
from benchmarks.slimnets.plan import PLAN_FILE, Plan, TablePlan, keep_plan
from benchmarks.slimnets.scale import SCALES
from benchmarks.slimnets.selection import runs_of
from tests.benchmarks.slimnets.finished_jobs import finished

TINY = SCALES["tiny"]


def test_results_are_written_of_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    (run,) = runs_of(TINY, only=["gradual-75"])
    (job,) = final_jobs(run, run.name, 0.0, TINY.original_epochs)
    carry_out(job, folder / "runs", finished)
    (folder / PLAN_FILE).write_text(Plan(tables={1: TablePlan(minutes=0.0, share=0.0)}).model_dump_json())
    asked = ["--scale", "tiny", "--only", "gradual-75", "--work", str(tmp_path), "--data", str(tmp_path)]
    assert main([*asked, "--write"]) == 0
    assert "| 75% of weights gone, gradually | 81.00% |" in (folder / "results" / "slimnets-tiny.md").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [PLAN_FILE, "results", "runs"]


def test_published_results_are_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "--scale",
        "tiny",
        "--tables",
        "1",
        "--data",
        str(tmp_path),
        "--results",
        str(tmp_path / "results"),
        "--write",
    ]
    first, second = (final_jobs(run, run.name, 0.0, TINY.original_epochs)[0] for run in runs_of(TINY, [1])[:2])
    for number, job in enumerate((first, second)):
        work = tmp_path / f"{number}"
        carry_out(job, work / "tiny" / "runs", finished)
        keep_plan(Plan(tables={1: TablePlan(minutes=0.0, share=0.0)}), work / "tiny")
        assert main([*asked, "--write", "--work", str(work), *(["--published"] if number else [])]) == 0
    assert "1 jobs of slimnets-tiny.json count as finished" in capsys.readouterr().out
    kept = json.loads((tmp_path / "results" / "slimnets-tiny.json").read_text())
    assert list(kept["outcomes"]) == [first.name, second.name]


def test_without_published_results_none_are_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--scale", "tiny", "--data", str(tmp_path), "--results", str(tmp_path), "--work", str(tmp_path)]
    assert main([*asked, "--published"]) == 1
    assert "slimnets-tiny.json is not there; leave --published out" in capsys.readouterr().err


def test_what_there_is_can_be_listed_without_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MODELPRESS_DATA", raising=False)
    asked = ["--scale", "tiny", "--tables", "2", "--work", str(tmp_path)]
    assert main([*asked, "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in listed] == ["table 2"] * len(runs_of(TINY, [2]))
    assert main(asked) == 1
    assert "set MODELPRESS_DATA" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
