"""The tables: golden text of figures that are written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.slimnets.finished import Finished
from benchmarks.slimnets.outcome import Figure, Outcome
from benchmarks.slimnets.runs import Run
from benchmarks.slimnets.scale import SCALES
from benchmarks.slimnets.selection import runs_of
from benchmarks.slimnets.tables import percent, table, times
from tests.benchmarks.slimnets.finished_jobs import a_job, finished, on, with_reused

RUNS = {run.name: run for scale in ("full", "gpu") for run in runs_of(SCALES[scale])}


def outcome(run: Run, *done: Finished) -> Outcome:
    return Outcome(run, done or (finished(a_job(run.name)),))


def test_a_figure_stands_beside_the_papers() -> None:
    assert table(1, {"gradual-75": outcome(RUNS["gradual-75"]), "nin-labels": outcome(RUNS["nin-labels"])}) == (
        "### 1. Gradual against one-shot weight pruning\n"
        "\n"
        "| network | top-1 | kept | smallest file | smaller | faster | epochs | SlimNets: top-1 | kept | smaller |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n"
        "| original: VGG-19 | 90.00% |  | 4,000 |  |  |  | 92.40% |  |  |\n"
        "| 75% of weights gone, gradually | 81.00% | 90.0% | 100 | 40.0x | 2.00x | 7 | 91.57% | 99.1% |  |\n"
    )
    assert table(2, {"gradual-75": outcome(RUNS["gradual-75"])}) == ""


def test_seeds_have_a_mean_and_a_spread_and_a_choice_is_told() -> None:
    run = RUNS["low-rank-ours"]
    done = [
        finished(a_job(run.name, seed=seed), top1, size) for seed, (top1, size) in enumerate([(0.8, 90), (0.82, 110)])
    ]
    names = ["energy 0.8", "EVBMF"]
    tried = tuple(finished(a_job(f"{run.name}, {name}", "tuning"), 0.7) for name in names)
    lines = table(2, {run.name: Outcome(run, tuple(done), "EVBMF", tried)}).splitlines()
    # Standard deviations of two: their distance over the root of two. 4,000 / 90 and / 110 bytes are 44.44 and 36.36.
    assert lines[5] == (
        "| ranks chosen by us, batch norm between | 81.00% ± 1.41 | 90.0% ± 1.6 | 100 ± 14 | 40.4x ± 5.7 | "
        "2.00x ± 0.00 | 7 |  |  |  |"
    )
    assert lines[7] == (
        "- ranks chosen by us, batch norm between: EVBMF, chosen on images held out of the training ones (the smallest "
        "file within 1.0% of the highest accuracy), of: energy 0.8 70.00% in 100 bytes, EVBMF 70.00% in 100 bytes."
    )


def test_rows_of_several_machines_are_told_apart() -> None:
    names = ("gradual-40", "gradual-75", "gradual-87.5")
    jobs = [finished(a_job(name)) for name in names]
    jobs[1] = on(jobs[1], gpu="a GPU")
    found = table(1, {job.name: outcome(RUNS[job.name], job) for job in jobs}).splitlines()[-2:]
    assert found == [
        "- on a processor, 2 cores, torch ?, trained in fp32: 40% of weights gone, gradually; 87.5% of weights gone, "
        "gradually.",
        "- on a processor, 2 cores, a GPU, torch ?, trained in fp32: 75% of weights gone, gradually.",
    ]


def test_time_that_is_limited_is_told_with_what_another_job_did() -> None:
    run = RUNS["two-cores"]
    done = [finished(a_job(run.name, seed=seed)) for seed in (0, 1)]
    # Two minutes each, and ten of the other job.
    lines = table(7, {run.name: Outcome(run, (done[0], with_reused(done[1], "job_before", 600.0)))}).splitlines()
    assert lines[7] == f"- {run.title}: mean and spread of 2 seeds."
    assert lines[8].startswith(f"- {run.title}: 12 minutes from the beginning of the longest job")


def test_methods_stand_side_by_side_as_declared() -> None:
    outcomes = {name: outcome(RUNS[name]) for name in ("smallest", "nin-pruned-75", "gradual-87.5", "gradual-40")}
    lines = table(4, outcomes).splitlines()
    assert [line.split(" | ")[0] for line in lines[4:8]] == [
        "| original: VGG-19",
        "| weight pruning: 87.5% of weights gone, gradually",
        "| distillation and weight pruning: NIN distilled, then 75% of weights gone",
        "| our smallest: smallest",
    ]
    assert lines[6].endswith("| 88.69% | 96.0% | 85x |")


@pytest.mark.parametrize(
    ("figure", "text"),
    [(Figure(2.345), "2.35x"), (Figure(85.04, 1.26), "85.0x ± 1.3"), (Figure(465.4, 3.2), "465x ± 3")],
)
def test_ratios_have_three_digits(figure: Figure, text: str) -> None:
    assert times(figure) == text


def test_shares_are_percents() -> None:
    assert percent(Figure(0.9123)) == "91.23%"
    assert percent(Figure(0.9123, 0.0011)) == "91.23% ± 0.11"
    assert times(None) == ""


def test_a_spread_is_of_several_seeds() -> None:
    assert Figure.of([1.0]) == Figure(1.0)
    assert Figure.of([1.0, 2.0, 3.0]) == Figure(2.0, 1.0)
    assert replace(Figure(1.0), spread=0.5).spread == 0.5
