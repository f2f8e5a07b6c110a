"""Jobs whose process is killed, by the engine's real process: the next one goes on, and makes the same files."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.engine.architectures.registry import build
from modelpress.engine.checkpoints.file import read_file
from modelpress.engine.checkpoints.folder import CheckpointFolder
from modelpress.engine.checkpoints.job import Figures, JobCheckpoints, StepsDone
from modelpress.engine.checkpoints.snapshot import Snapshot, part_of
from modelpress.engine.checkpoints.step import KeptStep
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import Checkpointed, EngineEvent, Progress, StageDone, Warned
from modelpress.spec.report import Measurement, Stage
from modelpress.spec.task import CHECKPOINT_FILES, CHECKPOINT_FOLDER, REUSED_FILE
from tests.support.networks import describe, network
from tests.support.reports import said
from tests.support.work_folder import ARCHITECTURE, WorkFolder

pytestmark = pytest.mark.slow

# Shorter than trainings that time two layouts in memory first: a clock would choose whether two jobs are alike.
TRAINING = {"epochs": 7, "learning_rate": 0.01, "batch_size": 32, "precision": "fp32"}
STEPS = [
    {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.3}, "training": {**TRAINING, "epochs": 1}},
    {"kind": "prune", "sparsity": 0.5, "schedule": {"kind": "cubic", "frequency": 5}, "training": TRAINING},
]
PATIENCE_SECONDS = 120.0


def task_of(folder: WorkFolder, **more: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "kind": "compress",
        "model": folder.put_model(build(ArchitectureRef.model_validate(ARCHITECTURE))),
        "dataset": folder.put_dataset(),
        "recipe": {"steps": STEPS, "artifacts": ["compact"]},
        "threads": 1,
        "device": "cpu",
        "checkpoint_seconds": 0,
        **more,
    }


def kill_when(folder: WorkFolder, task: dict[str, Any], condition: Callable[[list[EngineEvent]], bool]) -> None:
    """Start the engine, and kill it with all that it started once its events fulfil the condition."""
    process = folder.start(task)
    give_up = time.monotonic() + PATIENCE_SECONDS
    try:
        while not ((folder.path / "events.jsonl").exists() and condition(folder.events)):
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_training(index: int) -> Callable[[list[EngineEvent]], bool]:
    """Checkpoints of a step's training were written. A quick machine may be done before progress is due."""

    def condition(events: list[EngineEvent]) -> bool:
        ended = [
            number for number, event in enumerate(events) if isinstance(event, StageDone) and event.step == index - 1
        ]
        return bool(ended) and events[ended[0] :].count(Checkpointed(part="training")) >= 3

    return condition


def next_attempt(folder: WorkFolder, path: Path) -> tuple[WorkFolder, dict[str, Any]]:
    """Another folder with the same task and what was left of the first attempt's checkpoint."""
    other = WorkFolder(path)
    task = task_of(other)
    shutil.copytree(folder.path / CHECKPOINT_FOLDER, path / CHECKPOINT_FOLDER)
    return other, task


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> WorkFolder:
    """The job as it comes out when nothing happens to it."""
    folder = WorkFolder(tmp_path_factory.mktemp("whole") / "work")
    run = folder.run(task_of(folder, checkpoint_seconds=None))
    assert run.returncode == 0, run.stdout
    assert CHECKPOINT_FOLDER not in folder.names()
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> WorkFolder:
    """The same job, whose engine was killed in the training of its second step."""
    folder = WorkFolder(tmp_path_factory.mktemp("killed") / "work")
    kill_when(folder, task_of(folder), is_training(1))
    return folder


def test_a_killed_job_goes_on_where_it_was(whole: WorkFolder, killed: WorkFolder, tmp_path: Path):
    first = killed
    assert not (first.path / "report.json").exists()
    told = [event.part for event in first.events if isinstance(event, Checkpointed)]
    assert told[0] == "steps"  # behind the baseline
    assert set(told) == {"steps", "training"}

    second, task = next_attempt(first, tmp_path / "second")
    run = second.run(task)
    assert run.returncode == 0, run.stdout
    events = second.events
    stages = [(event.stage, event.step) for event in events if isinstance(event, StageDone)]
    assert stages == [("step", 1), ("final", None)]  # neither the baseline nor the first step once more
    assert "the training of step 1 goes on from the checkpoint" in run.stdout
    assert [event for event in events if isinstance(event, Warned)] == []
    assert second.sha256("artifacts/model.mpz") == whole.sha256("artifacts/model.mpz")
    assert said(second.report) == said(whole.report, nearly=True)

    # Once all steps are completed, a further attempt only writes and proves the files.
    run = second.run(task)
    assert run.returncode == 0, run.stdout
    assert [event.stage for event in second.events if isinstance(event, StageDone)] == ["final"]
    assert second.sha256("artifacts/model.mpz") == whole.sha256("artifacts/model.mpz")
    assert said(second.report) == said(whole.report, nearly=True)


def test_the_first_steps_of_another_job_lead_to_the_same_weights(whole: WorkFolder, killed: WorkFolder, tmp_path: Path):
    (kept,) = [event for event in killed.events if isinstance(event, Checkpointed) and event.steps == 1]
    file = f"{CHECKPOINT_FOLDER}/{CHECKPOINT_FILES['steps']}"
    assert kept.sha256 == killed.sha256(file)

    folder = WorkFolder(tmp_path / "work")
    # Other files are asked for, which is no matter of the steps.
    recipe = {"steps": STEPS, "artifacts": ["compact", "safetensors"]}
    task = task_of(folder, recipe=recipe, reused_from="job_before")
    shutil.copy(killed.path / file, folder.path / REUSED_FILE)
    run = folder.run(task)
    assert run.returncode == 0, run.stdout
    assert folder.sha256("artifacts/model.mpz") == whole.sha256("artifacts/model.mpz")

    stages = [(event.stage, event.step, event.reused_from) for event in folder.events if isinstance(event, StageDone)]
    assert stages == [("baseline", None, None), ("step", 0, "job_before"), ("step", 1, None), ("final", None, None)]
    assert {event.step for event in folder.events if isinstance(event, Progress)} == {None, 1}
    report = folder.report
    assert [stage.reused_from for stage in report.stages] == ["job_before", None]
    own = whole.report
    assert report.stages[0].layers == own.stages[0].layers
    assert report.stages[1].measurement.accuracy == own.stages[1].measurement.accuracy
    # The original is measured by this job, as other times were set against it else.
    left = part_of(read_file(killed.path / file), "figures").read(Figures)
    assert report.baseline.latencies != left.baseline.latencies
    assert datetime.fromisoformat(report.provenance.started_at) > datetime.fromisoformat(left.started_at)


MEASUREMENT = Measurement(measured_on="memory", parameters=10, nonzero_parameters=5, macs=20)


def prints(task: str) -> tuple[str, ...]:
    """Fingerprints of a task of two steps."""
    return tuple(f"{task} {count}" for count in range(3))


class Kept:
    """The checkpoints of a job that has completed one step and was at work on the second."""

    def __init__(self, work: Path) -> None:
        self._work, self.folder = work, work / CHECKPOINT_FOLDER
        self.network = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
        stage = Stage(index=0, kind="prune", seconds=1.5, measurement=MEASUREMENT)
        figures = Figures(
            started_at="2026-01-31T12:00:00+00:00", baseline=MEASUREMENT, stages=(stage,), warnings=("look",)
        )
        self.done = StepsDone(figures, torch.arange(6.0).view(2, 3), self.network, 12.5)
        self.warnings: list[str] = []
        self.job().keep_steps(self.done)
        KeptStep(self._files("task"), 1, 0.0).keep(Snapshot({"a": torch.ones(2)}, {"b": 3}))

    def _files(self, task: str) -> CheckpointFolder:
        return CheckpointFolder(self._work, prints(task), lambda _: None)

    def job(self, task: str = "task") -> JobCheckpoints:
        """As the next attempt finds them."""
        return JobCheckpoints(self._files(task), 60.0, self.warnings.append)

    def damage(self, part: str) -> None:
        """Cut a file off."""
        path = self.folder / CHECKPOINT_FILES[part]  # type: ignore[index]
        path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_what_was_done_comes_back(kept: Kept):
    done = kept.job().steps_done()
    assert done is not None
    assert done.figures == kept.done.figures
    assert done.seconds == 12.5
    assert done.original_outputs is not None
    assert torch.equal(done.original_outputs, torch.arange(6.0).view(2, 3))
    assert done.network is not None
    state = kept.network.module.state_dict()
    found = done.network.module.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert not done.network.module.training
    step = kept.job().of_step(1)
    saved = step.take_saved()
    assert saved is not None
    assert torch.equal(saved.tensors["a"], torch.ones(2))
    assert saved.facts == {"b": 3}
    assert step.take_saved() is None
    assert kept.warnings == []


def test_a_training_of_another_step_is_passed_by(kept: Kept):
    assert kept.job().of_step(0).take_saved() is None
    assert kept.warnings == []


class TestReused:
    """What another job's first steps made."""

    def lay(self, kept: Kept) -> None:
        (kept.folder / CHECKPOINT_FILES["steps"]).rename(kept.folder.parent / REUSED_FILE)

    def test_it_says_whose_steps_they_are(self, kept: Kept):
        self.lay(kept)
        done = kept.job().reused_steps("job_before")
        assert done is not None
        assert done.network is not None
        (stage,) = done.figures.stages
        assert (stage.kind, stage.reused_from) == ("prune", "job_before")
        assert kept.warnings == []
        # Once more: who did it is told on.
        kept.job().keep_steps(done)
        self.lay(kept)
        again = kept.job().reused_steps("job_between")
        assert again is not None
        assert again.figures.stages == (stage,)

    def test_of_another_recipe_it_is_left_alone(self, kept: Kept):
        self.lay(kept)
        assert kept.job("another").reused_steps("job_before") is None
        (warning,) = kept.warnings
        assert "job_before" in warning
        assert "belongs to another task" in warning

    def test_it_is_no_checkpoint_of_our_own(self, kept: Kept):
        self.lay(kept)
        assert kept.job().steps_done() is None
        assert kept.warnings == []

    def test_what_is_told_names_the_bytes(self, kept: Kept):
        told: list[EngineEvent] = []
        JobCheckpoints(CheckpointFolder(kept.folder.parent, prints("task"), told.append), 60.0, print).keep_steps(
            kept.done
        )
        content = (kept.folder / CHECKPOINT_FILES["steps"]).read_bytes()
        assert told == [Checkpointed(part="steps", steps=1, sha256=hashlib.sha256(content).hexdigest())]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no safetensors", b"\xff" * 64], ids=["empty", "zip", "noise"])
def test_without_the_training_the_step_starts_anew(kept: Kept, content: bytes):
    (kept.folder / CHECKPOINT_FILES["training"]).write_bytes(content)
    assert kept.job().steps_done() is not None
    assert kept.job().of_step(1).take_saved() is None
    (warning,) = kept.warnings
    assert "step 1 is not used" in warning
    assert "the step starts from its beginning" in warning


def test_a_cut_off_training_is_noticed(kept: Kept):
    kept.damage("training")
    assert kept.job().of_step(1).take_saved() is None
    assert len(kept.warnings) == 1


def test_without_the_steps_the_job_starts_anew(kept: Kept):
    kept.damage("steps")
    assert kept.job().steps_done() is None
    (warning,) = kept.warnings
    assert "the job starts from its beginning" in warning
    assert list(kept.folder.iterdir()) == []


def test_another_tasks_checkpoint_is_left_alone(kept: Kept):
    assert kept.job("another").steps_done() is None
    assert "belongs to another task" in kept.warnings[0]


def test_a_checkpoint_that_cannot_be_written_costs_nothing_else(kept: Kept):
    told: list[EngineEvent] = []
    (kept.folder / "file").write_bytes(b"")
    files = CheckpointFolder(kept.folder / "file", prints("task"), told.append)
    files.write("training", {}, step=0, seconds=0.0)
    assert told == []
