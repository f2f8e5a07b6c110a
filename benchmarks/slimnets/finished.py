"""What a job of the tables came to, a file each, so that a stopped run goes on with the next one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.slimnets.budget import Data, Job
from modelpress.spec.config import Resource
from modelpress.spec.event import Progress
from modelpress.spec.job import Recipe
from modelpress.spec.report import Report

CURVE_SAMPLES = 200
# What a report says of each layer is most of it, and no table shows it.
_LAYERS: Any = {
    "baseline": {"layers"},
    "final": {"layers"},
    "stages": {"__all__": {"layers": True, "skipped": True, "measurement": {"layers"}}},
}


class Sample(Resource):
    """A training at one moment."""

    part: int  # index of the step of the recipe
    step: int  # of the training
    loss: float
    sparsity: float | None = None

    @classmethod
    def of(cls, progress: Progress) -> Sample | None:
        """What a job's progress says of its training; None where it says nothing."""
        metrics = progress.metrics
        if progress.step is None or not {"step", "loss"} <= metrics.keys():
            return None
        return cls(
            part=progress.step, step=int(metrics["step"]), loss=metrics["loss"], sparsity=metrics.get("sparsity")
        )


class Finished(Resource):
    """One job that succeeded."""

    name: str
    data: Data
    seed: int
    steps: list[dict[str, Any]]  # as submitted
    id: str  # of the service's job
    report: Report
    curve: tuple[Sample, ...] = ()

    @property
    def top1(self) -> float:
        """Accuracy of the result on the held-out part of its data."""
        assert self.report.final.accuracy is not None  # every job has a data set
        return self.report.final.accuracy.top1

    @property
    def stored_bytes(self) -> int:
        """Of the smallest file that gives the network's own outputs."""
        assert self.report.final.smallest_bytes is not None  # every job makes files
        return self.report.final.smallest_bytes

    @property
    def latency_ms(self) -> float:
        """Median of one image, one thread, ONNX Runtime, fp32; endless where it was not measured."""
        timed = self.report.final.latency_in()
        return float("inf") if timed is None else timed.p50_ms

    def published(self) -> dict[str, Any]:
        """For the results: without what is said of each layer."""
        return self.model_dump(mode="json", exclude={"report": _LAYERS})


def dumped(job: Job) -> list[dict[str, Any]]:
    """The steps of a job as they are submitted and kept."""
    return [step.model_dump(mode="json") for step in job.steps]


def key(job: Job | Finished) -> str:
    """Name of the job's files."""
    words = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")
    return f"{words}.{job.data}.{job.seed}"


def carry_out(job: Job, folder: Path, perform: Callable[[Job], Finished]) -> Finished:
    """The job's result from its file in `folder`; where there is none, or one of other steps, `perform` makes it."""
    path = path_of(job, folder)
    if path.is_file():
        kept = Finished.model_validate_json(path.read_bytes())
        if _are(kept.steps, job):
            return kept
    finished = perform(job)
    keep(finished, folder)
    return finished


def path_of(job: Job | Finished, folder: Path) -> Path:
    """Where the result of a job is kept."""
    return folder / f"{key(job)}.json"


def keep(finished: Finished, folder: Path) -> None:
    """Write the file that `carry_out` looks for."""
    write_text(path_of(finished, folder), finished.model_dump_json(indent=1) + "\n")


def _are(kept: list[dict[str, Any]], job: Job) -> bool:
    """Whether these are the job's steps: fields that steps got since then are at their defaults."""
    try:
        return Recipe.model_validate({"steps": kept}).steps == job.steps
    except ValidationError:
        return False


def write_text(path: Path, text: str) -> Path:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text)
    return partial.rename(path)


class Curve:
    """The samples of a job at work, kept line by line: those from before a stop count too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[int, int] | None = None

    def add(self, progress: Progress) -> None:
        """Note where the training stands, once for each of its steps."""
        sample = Sample.of(progress)
        if sample is None or (sample.part, sample.step) == self._last:
            return
        self._last = (sample.part, sample.step)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as lines:
            lines.write(sample.model_dump_json() + "\n")

    def samples(self) -> tuple[Sample, ...]:
        """In the order of the training, thinned to some CURVE_SAMPLES."""
        if not self._path.is_file():
            return ()
        return thinned(Sample.model_validate(json.loads(line)) for line in self._path.read_text().splitlines())


def thinned(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """At most twice CURVE_SAMPLES, evenly, the last one among them; of a step that was done twice, the later time."""
    newest = {(sample.part, sample.step): sample for sample in samples}
    ordered = [newest[place] for place in sorted(newest)]
    stride = max(1, len(ordered) // CURVE_SAMPLES)
    return tuple(ordered[::-1][::stride][::-1])
