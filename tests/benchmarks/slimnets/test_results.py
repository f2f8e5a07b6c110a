"""What is written, and read back for the page; of what was not measured the page says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.slimnets.finished import carry_out, keep
from benchmarks.slimnets.outcome import Outcome
from benchmarks.slimnets.plan import OtherPlan, Plan, TablePlan, keep_plan, kept_plan
from benchmarks.slimnets.results import RUNS, commands, differences, document, page, read, restore, write
from benchmarks.slimnets.scale import SCALES
from benchmarks.slimnets.selection import all_runs
from tests.benchmarks.slimnets.finished_jobs import a_job, fail, finished, on, with_reused

FULL = SCALES["full"]
PLAN = Plan(
    tables={
        1: TablePlan(minutes=720.0, share=0.1),
        2: TablePlan(minutes=720.0, share=0.1),
        3: TablePlan(minutes=90.0, share=0.2),
    }
)


def test_what_was_written_is_read_back_and_becomes_the_page(tmp_path: Path) -> None:
    runs = {run.name: run for run in all_runs(FULL)}
    outcomes = {}
    for name in ("gradual-75", "gradual-87.5", "low-rank-ours"):
        run = runs[name]
        chosen = list(run.candidates)[-1] if len(run.candidates) > 1 else None
        tried = (finished(a_job(f"{name}, x", "tuning")),) if chosen else ()
        outcomes[name] = Outcome(run, (finished(a_job(name)),), chosen, tried)
    paths = write(tmp_path, FULL, outcomes, {"nin-distilled": "it diverged"}, PLAN)
    assert sorted(path.name for path in paths) == sorted(
        f"slimnets-full{end}" for end in (".json", ".md", "-sparsity.svg", "-loss.svg", "-bytes.svg", "-latency.svg")
    )
    text = (tmp_path / "slimnets-full.json").read_text()
    scale, again, found = read(text)
    assert (scale, list(again)) == (FULL, list(outcomes))
    assert again["low-rank-ours"].chosen == outcomes["low-rank-ours"].chosen
    assert again["gradual-75"].top1 == outcomes["gradual-75"].top1
    assert "figures" not in found  # it is no benchmark of one line in the README
    made = page([text], "../benchmarks/results/")
    assert "| 75% of weights gone, gradually | 81.00% | 90.0% |" in made
    assert (
        "![Training loss over the steps, gradual and one-shot pruning](../benchmarks/results/slimnets-full-loss.svg)"
        in made
    )
    assert "Failed: nin-distilled: it diverged" in made
    assert "Not measured yet: 40% of weights gone, gradually;" in made
    assert "original: trained for 28 epochs, 90.00%; the paper's has 92.40%." in made
    assert made.endswith("## On a GPU\n\nNot measured yet. `python -m benchmarks.slimnets --gpu` does it.\n")
    assert json.loads(text)["outcomes"]["low-rank-ours"]["finished"][0]["report"]["final"].keys().isdisjoint({"layers"})


def test_the_commands_say_what_repeats_it() -> None:
    assert commands(FULL, PLAN) == [
        "MODELPRESS_DATA=... python -m benchmarks.slimnets --scale full --tables 1 2",
        "MODELPRESS_DATA=... python -m benchmarks.slimnets --scale full --budget 90 --tables 3",
    ]


def test_what_several_jobs_began_with_is_counted_once() -> None:
    runs = {run.name: run for run in all_runs(FULL)}
    names = ("gradual-40", "gradual-75", "gradual-95")
    before, first, second = (finished(a_job(name)) for name in names)
    done = (before, with_reused(first, "job_elsewhere", 600.0), with_reused(second, "job_elsewhere", 600.0))
    outcomes = {name: Outcome(runs[name], (one,)) for name, one in zip(names, done, strict=True)}
    # Three times two minutes, and ten of a job that is not among them.
    assert any("; 16 minutes for these runs" in line for line in differences(FULL, outcomes))
    inside = {**outcomes, names[2]: Outcome(runs[names[2]], (with_reused(second, before.id, 600.0),))}
    inside[names[1]] = Outcome(runs[names[1]], (first,))
    assert any("; 6 minutes for these runs" in line for line in differences(FULL, inside))


def test_other_machines_are_named() -> None:
    runs = {run.name: run for run in all_runs(FULL)}
    jobs = finished(a_job("gradual-40")), on(finished(a_job("gradual-75")), processor="another", instructions="AVX2")
    outcomes = {one.name: Outcome(runs[one.name], (one,)) for one in jobs}
    (line,) = (line for line in differences(FULL, outcomes) if line.startswith("- machine"))
    torch = "torch ?, trained in fp32"
    assert line.startswith(f"- machine: a processor, 2 cores, {torch}; another with AVX2, 2 cores, {torch}; ")


def test_published_results_count_as_finished_in_another_work_folder(tmp_path: Path) -> None:
    runs = {run.name: run for run in all_runs(FULL)}
    ours, chosen = runs["low-rank-ours"], list(runs["low-rank-ours"].candidates)[-1]
    best, tried = finished(a_job(ours.name), top1=0.77), finished(a_job(f"{ours.name}, x", "tuning"))
    outcomes = {
        "gradual-75": Outcome(runs["gradual-75"], (finished(a_job("gradual-75")),)),
        ours.name: Outcome(ours, (best,), chosen, (tried,)),
    }
    text = json.dumps(document(FULL, outcomes, {}, PLAN))
    work = tmp_path / "work"
    newer = finished(a_job("gradual-75"), top1=0.5)
    keep(newer, work / RUNS)
    keep_plan(Plan(tables={7: TablePlan(minutes=720.0, share=1.0)}), work)
    assert restore(text, work) == 2
    # What was measured here stays; both plans are gone on with.
    assert carry_out(a_job("gradual-75"), work / RUNS, fail) == newer
    again = carry_out(a_job(ours.name), work / RUNS, fail)
    assert (again.top1, again.curve) == (0.77, best.curve)
    assert carry_out(a_job(tried.name, "tuning"), work / RUNS, fail).id == tried.id
    assert kept_plan(work).tables.keys() == {1, 2, 3, 7}
    assert restore(text, work) == 0


def test_published_results_of_other_epochs_are_not_mixed_in(tmp_path: Path) -> None:
    runs = {run.name: run for run in all_runs(FULL)}
    text = json.dumps(document(FULL, {"gradual-75": Outcome(runs["gradual-75"], (finished(a_job()),))}, {}, PLAN))
    keep_plan(Plan(tables={1: TablePlan(minutes=720.0, share=0.2)}), tmp_path)
    with pytest.raises(OtherPlan, match="table 1 begun with other epochs than the published ones: give another --work"):
        restore(text, tmp_path)
    assert not (tmp_path / RUNS).exists()
