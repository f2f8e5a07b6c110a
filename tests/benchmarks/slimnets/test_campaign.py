"""Runs in turn: choices on the tuning data alone, ablations of what was chosen, failures that stop nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.slimnets.budget import Job
from benchmarks.slimnets.campaign import Campaign
from benchmarks.slimnets.finished import Finished
from benchmarks.slimnets.recipes import coded, sparse
from benchmarks.slimnets.runs import Run
from benchmarks.slimnets.selection import choose
from modelpress.client import JobFailed
from modelpress.spec.job import ArtifactKind
from modelpress.spec.resources import Job as JobResource
from modelpress.spec.steps import Prune, Quantize
from tests.benchmarks.slimnets.finished_jobs import a_job, finished

CHOICE = Run(
    "choice",
    6,
    "a choice",
    {"large": (sparse(0.5), coded(8)), "small": (sparse(0.9), coded(3)), "broken": (sparse(0.99), coded(2))},
    seeds=(0, 1),
    ablated=True,
)
# Top-1 and bytes by candidate: `small` is within a hundredth of the best, `broken` is not.
REACHED = {"choice, large": (0.900, 400), "choice, small": (0.892, 100), "choice, broken": (0.500, 10)}


class Service:
    """Does every job at once, and notes it."""

    def __init__(self, *failing: str) -> None:
        self.done: list[Job] = []
        self._failing = failing

    def perform(self, job: Job, artifacts: tuple[ArtifactKind, ...]) -> Finished:
        assert ArtifactKind.COMPACT in artifacts
        if job.name in self._failing:
            raise JobFailed(JobResource.model_construct(id="job_1", failure=None))
        self.done.append(job)
        return finished(job, *REACHED.get(job.name, (0.8, 50)))


def test_candidates_are_compared_on_the_tuning_data_and_the_chosen_one_alone_sees_the_test_images(
    tmp_path: Path,
) -> None:
    service = Service()
    campaign = Campaign(tmp_path, {6: 0.1}, 28)
    campaign.carry_out([CHOICE], service.perform)
    # Half of a tenth of 80 epochs for candidates, a tenth for the chosen one.
    first = [(job.name, job.data, job.seed, job.steps[0].training.epochs) for job in service.done[:5]]  # type: ignore[union-attr]
    assert first == [
        ("choice, large", "tuning", 0, 4),
        ("choice, small", "tuning", 0, 4),
        ("choice, broken", "tuning", 0, 4),
        ("choice", "final", 0, 8),
        ("choice", "final", 1, 8),
    ]
    assert [job.name for job in service.done[5:]] == [
        "choice-without-prune",
        "choice-without-quantize",
        "choice-labels",
    ]
    assert {job.data for job in service.done[3:]} == {"final"}
    assert all(step.sparsity == 0.9 for job in service.done[3:5] for step in job.steps[:1] if isinstance(step, Prune))
    assert [step.bits for job in service.done[3:5] for step in job.steps if isinstance(step, Quantize)] == [3, 3]
    assert campaign.outcomes["choice"].chosen == "small"
    assert [step.kind for step in service.done[5].steps] == ["quantize"]
    assert list(campaign.outcomes) == ["choice", *(job.name for job in service.done[5:])]


def test_the_seeds_that_are_there_make_a_figure(tmp_path: Path) -> None:
    service = Service()
    Campaign(tmp_path, {6: 0.1}, 28).carry_out([replace(CHOICE, seeds=(0,))], service.perform)
    later = Campaign(tmp_path, {6: 0.1}, 28)
    later.gather([CHOICE])
    assert [one.seed for one in later.outcomes["choice"].finished] == [0]
    assert later.outcomes["choice"].top1.spread is None


def test_what_is_finished_is_gathered_and_not_done_again(tmp_path: Path) -> None:
    service = Service()
    Campaign(tmp_path, {6: 0.1}, 28).carry_out([CHOICE], service.perform)
    later = Campaign(tmp_path, {6: 0.1}, 28)
    later.gather([CHOICE, replace(CHOICE, name="never")])
    assert list(later.outcomes) == ["choice", *(job.name for job in service.done[5:])]
    assert not later.failures
    again = Service()
    Campaign(tmp_path, {6: 0.1}, 28).carry_out([CHOICE], again.perform)
    assert again.done == []
    # Of another share of the epochs nothing has been done.
    other = Campaign(tmp_path, {6: 0.2}, 28)
    other.gather([CHOICE])
    assert other.outcomes == {}


def test_a_failure_is_noted_and_the_rest_goes_on(tmp_path: Path) -> None:
    service = Service("choice-without-prune", "one")
    one, two = (Run(name, 1, name, {name: (sparse(0.5),)}) for name in ("one", "two"))
    campaign = Campaign(tmp_path, {}, 28)
    campaign.carry_out([one, CHOICE, two], service.perform)
    assert list(campaign.failures) == ["one", "choice-without-prune"]
    assert "two" in campaign.outcomes
    assert "choice-labels" in campaign.outcomes


@pytest.mark.parametrize(("share", "chosen"), [(1.0, "large"), (0.99, "small"), (0.5, "broken")])
def test_the_smallest_file_near_the_best_accuracy_is_chosen(share: float, chosen: str) -> None:
    tried = {name.removeprefix("choice, "): finished(a_job(name), *reached) for name, reached in REACHED.items()}
    assert choose(replace(CHOICE, accuracy_of_best=share), tried) == chosen


def test_where_time_counts_the_fastest_is_chosen() -> None:
    slow, fast = finished(a_job("slow"), 0.8, 10), finished(a_job("fast"), 0.8, 400)
    timed = fast.report.final.latencies[0].model_copy(update={"p50_ms": 0.5})
    final = fast.report.final.model_copy(update={"latencies": (timed,)})
    fast = fast.model_copy(update={"report": fast.report.model_copy(update={"final": final})})
    assert choose(replace(CHOICE, least="latency"), {"slow": slow, "fast": fast}) == "fast"
    assert choose(CHOICE, {"slow": slow, "fast": fast}) == "slow"
