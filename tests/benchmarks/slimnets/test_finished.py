"""Files of finished jobs: read, not run again; and the curve of a job that was stopped in between."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.slimnets.budget import Job
from benchmarks.slimnets.finished import CURVE_SAMPLES, Curve, Finished, Sample, carry_out, key, thinned
from modelpress.spec.event import Progress
from modelpress.spec.steps import Prune
from modelpress.spec.training import Recovery
from tests.benchmarks.slimnets.finished_jobs import a_job, fail, finished


def test_a_finished_job_is_not_run_again(tmp_path: Path) -> None:
    job, performed = a_job(), []

    def perform(job: Job) -> Finished:
        performed.append(job)
        return finished(job)

    first = carry_out(job, tmp_path, perform)
    assert carry_out(job, tmp_path, perform) == first
    assert performed == [job]
    assert [path.name for path in tmp_path.iterdir()] == ["gradual-75.final.0.json"]
    # Other steps under the same name are another job; another seed has a file of its own.
    for other in (replace(job, steps=(Prune(sparsity=0.8),)), replace(job, seed=1)):
        carry_out(other, tmp_path, perform)
        assert performed[-1] == other
    assert len(performed) == 3


def test_a_field_that_steps_got_since_then_makes_no_other_job(tmp_path: Path) -> None:
    job = replace(a_job(), steps=(Prune(sparsity=0.75, training=Recovery(epochs=1)),))
    carry_out(job, tmp_path, finished)
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_text())
    del kept["steps"][0]["training"]["epoch_share"]
    path.write_text(json.dumps(kept))
    assert carry_out(job, tmp_path, fail).name == job.name
    for steps in ([{"kind": "none such"}], [kept["steps"][0] | {"training": {"epoch_share": 0.5}}]):
        path.write_text(json.dumps(kept | {"steps": steps}))
        with pytest.raises(KeyboardInterrupt):
            carry_out(job, tmp_path, fail)


def test_a_job_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        carry_out(a_job(), tmp_path, fail)
    assert not list(tmp_path.iterdir())


def test_the_names_of_files_are_plain() -> None:
    assert key(a_job("smallest, ResNet-20, 80% gone", "tuning", 2)) == "smallest-resnet-20-80-gone.tuning.2"


def progress(step: int, loss: float, **metrics: float) -> Progress:
    return Progress(stage="step", step=0, steps=1, fraction=0.5, metrics={"step": float(step), "loss": loss, **metrics})


def test_a_curve_goes_on_after_a_stop_with_what_was_done_last(tmp_path: Path) -> None:
    path = tmp_path / "curves" / "job.jsonl"
    assert Curve(path).samples() == ()
    first = Curve(path)
    for seen in (progress(10, 3.0, sparsity=0.2), progress(10, 3.0), progress(20, 2.0)):
        first.add(seen)
    first.add(Progress(stage="artifacts", steps=1, fraction=0.9))
    second = Curve(path)
    second.add(progress(20, 2.5))
    second.add(progress(30, 1.0))
    assert second.samples() == (
        Sample(part=0, step=10, loss=3.0, sparsity=0.2),
        Sample(part=0, step=20, loss=2.5),
        Sample(part=0, step=30, loss=1.0),
    )


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    samples = [Sample(part=0, step=step, loss=1.0) for step in range(1, 5 * CURVE_SAMPLES + 4)]
    kept = thinned(samples)
    assert CURVE_SAMPLES <= len(kept) <= 2 * CURVE_SAMPLES
    assert kept[-1] == samples[-1]
    assert {later.step - one.step for one, later in pairwise(kept)} == {5}
