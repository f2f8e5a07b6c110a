"""The command: what a stopped run left is written without anything being run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.slimnets.__main__ import main
from benchmarks.slimnets.budget import final_jobs
from benchmarks.slimnets.finished import carry_out
from benchmarks.slimnets.plan import PLAN_FILE, Plan, TablePlan
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
