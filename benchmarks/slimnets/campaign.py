"""All runs in turn: candidates, the chosen one for every seed, its ablations; what fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.slimnets.budget import Job, final_jobs, search_jobs
from benchmarks.slimnets.finished import Finished, carry_out
from benchmarks.slimnets.outcome import Outcome
from benchmarks.slimnets.recipes import ablations
from benchmarks.slimnets.runs import Run
from benchmarks.slimnets.selection import choose
from modelpress.client import ApiError, JobCancelled, JobFailed
from modelpress.spec.job import ArtifactKind

Perform = Callable[[Job, tuple[ArtifactKind, ...]], Finished]


class NotDone(Exception):
    """A job has not been carried out yet, and is not to be now."""


@dataclass
class Campaign:
    """What has finished, by the runs' names, and why others failed."""

    folder: Path  # of the files of finished jobs
    shares: Mapping[int, float]
    original_epochs: int
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def carry_out(self, runs: Sequence[Run], perform: Perform) -> None:
        """Every run, or what is left of it; the figures are in `outcomes`."""
        for run in runs:
            try:
                outcome = self.outcomes[run.name] = self._outcome(run, perform)
            except NotDone:
                continue
            except (ApiError, JobFailed, JobCancelled) as error:  # refused, or carried out in vain
                self.failures[run.name] = str(error)
            else:
                self.carry_out(ablations(run, outcome.candidate), perform)

    def gather(self, runs: Sequence[Run]) -> None:
        """What of the runs was finished before, whenever that was; of several seeds those that are there."""
        self.carry_out(runs, _not_now)

    def _outcome(self, run: Run, perform: Perform) -> Outcome:
        def finish(job: Job) -> Finished:
            return carry_out(job, self.folder, lambda job: perform(job, run.artifacts))

        share = self.shares.get(run.table, 1.0)
        tried = tuple(map(finish, search_jobs(run, share)))
        # The test images are not looked at before this choice is made.
        chosen = choose(run, dict(zip(run.candidates, tried, strict=True))) if tried else None
        candidate = chosen or next(iter(run.candidates))
        seeds: list[Finished] = []
        for job in final_jobs(run, candidate, share, self.original_epochs):
            try:
                seeds.append(finish(job))
            except NotDone:
                continue
        if not seeds:
            raise NotDone(run.name)
        return Outcome(run, tuple(seeds), chosen, tried)


def _not_now(job: Job, _: tuple[ArtifactKind, ...]) -> Finished:
    raise NotDone(job.name)
