"""The main job: from a model's file and a recipe to files that were proven to load, and the report on them.

loading       read the model and the data, check the recipe against them
baseline      write the original as fp32 safetensors, measure it in a fresh process
step 0..n-1   fold the steps over the network, measure after each in memory
artifacts     write the files
verification  a fresh process reloads each file, compares and measures; original and result are timed in turns
done          report and model card; then the goal, so that a job that misses it keeps its files and its figures

What an earlier attempt has completed, as its checkpoint tells, is not done again (checkpoints/), nor are the first
steps that another job with the same inputs has done; its measurements of the original are. Each step follows from
the network before it, its part of the recipe and its seed alone, whatever process came to it.
"""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from modelpress.engine.batch_size import HALVES, halved
from modelpress.engine.checkpoints.folder import CheckpointFolder
from modelpress.engine.checkpoints.job import Figures, JobCheckpoints, StepsDone
from modelpress.engine.checkpoints.snapshot import UnusableCheckpoint
from modelpress.engine.device import choose_device
from modelpress.engine.distill.cache import KeptAnswers
from modelpress.engine.events import Tracker
from modelpress.engine.exhaustion import BatchTooLarge, free_memory, naming
from modelpress.engine.final_report import final_report
from modelpress.engine.formats.extras import require_extras
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.loading import Inputs, load_inputs
from modelpress.engine.measure import reset_peak_memory
from modelpress.engine.measure_in_memory import measure_in_memory
from modelpress.engine.model_card import model_card
from modelpress.engine.network import Network
from modelpress.engine.phases import first_phases, plan_phases
from modelpress.engine.provenance import provenance
from modelpress.engine.proving import Prover
from modelpress.engine.ranks.leader import ALONE, Ranks
from modelpress.engine.ratios import check_goal
from modelpress.engine.results import write_result
from modelpress.engine.steps import STEPS, StepContext, StepResult
from modelpress.spec.cores import available_cores
from modelpress.spec.event import EngineEvent, StageDone
from modelpress.spec.failure import GoalNotMet, IncompatibleSpec
from modelpress.spec.identity import step_fingerprints
from modelpress.spec.job import ARTIFACT_FILES, RUNTIME_NAMES, ArtifactKind
from modelpress.spec.report import Measurement, Report, Stage, gives_network_outputs
from modelpress.spec.steps import Distill, Step, step_training
from modelpress.spec.task import ARTIFACTS_FOLDER, MODEL_CARD_FILE, REPORT_FILE, Compress

LOG = logging.getLogger(__name__)

SCRATCH_FOLDER = "scratch"


def compress(task: Compress, folder: Path, emit: Callable[[EngineEvent], None], ranks: Ranks = ALONE) -> Report:
    """Carry out `task` in the work folder `folder`; tell of it through `emit`; return what was written to report.json.

    Trainings are shared with `ranks`; everything else is done here. A checkpoint that lies in the folder is gone on
    from.

    Raises one of the CompressionErrors. After GoalNotMet the files and the report are there; after any other error
    no artifact is: what is not proven is not kept.
    """
    artifacts, scratch = folder / ARTIFACTS_FOLDER, folder / SCRATCH_FOLDER
    for place in (artifacts, scratch):  # an earlier attempt may have left its own
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    try:
        return _Job(task, folder, emit, ranks).run()
    except GoalNotMet:
        raise
    except BaseException:
        shutil.rmtree(artifacts, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Job:
    """One compression, with what its phases share."""

    def __init__(self, task: Compress, folder: Path, emit: Callable[[EngineEvent], None], ranks: Ranks) -> None:
        self.task, self.recipe, self.folder, self.emit, self.ranks = task, task.recipe, folder, emit, ranks
        self.started = datetime.now(UTC)
        self.device = choose_device(task.device)
        self.threads = task.threads or available_cores()
        self.tracker = Tracker(emit, first_phases(self.recipe))
        files = CheckpointFolder(folder, step_fingerprints(task.inputs, task.recipe), emit)
        self.checkpoints = JobCheckpoints(files, task.checkpoint_seconds, self.tracker.warn)
        self.answers = KeptAnswers()
        self.logged_epoch: tuple[int | None, int] | None = None

    def run(self) -> Report:
        torch.set_num_threads(self.threads)
        _seed(self.recipe.seed)
        self.tracker.enter("loading")
        require_extras(self.recipe.wanted_artifacts)
        done = self.checkpoints.steps_done()
        reused = None
        if done is None and self.task.reused_from is not None:
            reused = self.checkpoints.reused_steps(self.task.reused_from)
        if done is not None:
            self.started = datetime.fromisoformat(done.figures.started_at)
            self.tracker.go_on(done.seconds, done.figures.warnings)
        with naming("loading the model and the data", advice="use a machine with more memory, or fewer images"):
            inputs = load_inputs(self.task, self.folder, self.tracker.warn)
            prover = Prover(
                inputs.data,
                self.folder / SCRATCH_FOLDER,
                self.threads,
                self.device,
                latency_seconds=self.task.latency_seconds,
            )
        self._plan(inputs, 0 if reused is None else len(reused.figures.stages))
        self.tracker.enter("baseline")
        if done is None:
            baseline = self._measure_original(inputs, prover)
            self._tell_stage("baseline", baseline)
            if reused is None:
                done = self._keep(None, baseline, [], prover.original_outputs)
            else:
                done = self._take_over(reused, baseline, prover.original_outputs)
        else:
            with naming("exporting the original"):
                prover.take_original(inputs.original, self.recipe.wanted_artifacts, done.original_outputs)
        done = self._fold_steps(inputs, done)
        network = inputs.original if done.network is None else done.network
        _seed(self.recipe.seed)
        self.tracker.enter("artifacts")
        files = prover.write_files(network, self.recipe, self.folder / ARTIFACTS_FOLDER, self.tracker.warn)
        self.tracker.enter("verification")
        with naming("verifying the files"):
            # In a deep network sums of coarse steps go far apart by rounding alone: no reason to lose the other files.
            unnamed = self.recipe.wanted_artifacts if self.recipe.artifacts is None else ()
            optional = [kind for kind in unnamed if not gives_network_outputs(kind)]
            verified = prover.prove(network, files, optional, self.tracker.warn)
        report = final_report(
            network, done.figures, verified, provenance(self.task, self.device, self.started), self.tracker
        )
        write_result(report, self.folder / REPORT_FILE)
        (self.folder / MODEL_CARD_FILE).write_text(model_card(report), encoding="utf-8")
        self._tell_stage("final", report.final)
        self.tracker.finish()
        check_goal(self.recipe.goal, report.proofs, self.recipe.artifacts)
        return report

    def _plan(self, inputs: Inputs, reused: int) -> None:
        train, heldout = 0, 0
        if inputs.data is not None:
            train, heldout = len(inputs.data.train_labels), len(inputs.data.heldout_labels)
        self.tracker.plan(plan_phases(self.recipe, inputs.macs, train, heldout, self.device, reused=reused))

    def _measure_original(self, inputs: Inputs, prover: Prover) -> Measurement:
        with naming("measuring the original"):
            baseline, refusals = prover.measure_original(inputs.original, self.recipe.wanted_artifacts)
        for kind, refusal in refusals.items():
            runtime = ARTIFACT_FILES[kind].runtime
            # Better now than after the training, unless the result will be of another architecture.
            if any(ARTIFACT_FILES[named].runtime == runtime for named in self.recipe.artifacts or ()) and not any(
                isinstance(step, Distill) and step.replaces_network for step in self.recipe.steps
            ):
                raise IncompatibleSpec(refusal)
            self.tracker.warn(f"latency in {RUNTIME_NAMES[runtime]} is not measured: {refusal}")
        if baseline.accuracy is not None and inputs.data is not None:
            chance = 1 / len(inputs.data.classes)
            if baseline.accuracy.top1 < 1.5 * chance:
                self.tracker.warn(
                    f"the original is right on {baseline.accuracy.top1:.1%} of the held-out images, which is hardly "
                    f"more than chance ({chance:.1%}): check the order of the classes, and `mean` and `std`"
                )
        # Of the plain state dict, without the description that our own file of it carries.
        return baseline.model_copy(update={"stored_bytes": {ArtifactKind.SAFETENSORS.value: inputs.fp32_bytes}})

    def _fold_steps(self, inputs: Inputs, done: StepsDone) -> StepsDone:
        network = inputs.original if done.network is None else done.network
        for index, step in enumerate(self.recipe.steps[len(done.figures.stages) :], start=len(done.figures.stages)):
            self.tracker.enter("step", index)
            started = time.monotonic()
            reset_peak_memory(self.device)
            with naming(f"step {index} ({step.kind}) was at work", step=index, advice=_memory_advice(step)):
                result, before = self._take_step(network, step, index, inputs)
                network = result.network
                measurement = measure_in_memory(network, inputs.data, self.device, self.task.latency_seconds)
            stage = Stage(
                index=index,
                kind=step.kind,
                seconds=before + time.monotonic() - started,
                measurement=measurement,
                layers=result.layers,
                skipped=result.skipped,
                training=result.training,
            )
            self._tell_stage("step", measurement, step=index, step_kind=step.kind)
            figures = done.figures
            done = self._keep(network, figures.baseline, [*figures.stages, stage], done.original_outputs)
        return done

    def _take_over(self, reused: StepsDone, baseline: Measurement, outputs: Tensor | None) -> StepsDone:
        """The steps of another job, behind this one's own measurement of the original."""
        for stage in reused.figures.stages:
            said = {"step": stage.index, "step_kind": stage.kind, "reused_from": stage.reused_from}
            self._tell_stage("step", stage.measurement, **said)
        return self._keep(reused.network, baseline, reused.figures.stages, outputs)

    def _keep(
        self, network: Network | None, baseline: Measurement, stages: Sequence[Stage], outputs: Tensor | None
    ) -> StepsDone:
        """What is completed, with a checkpoint of it."""
        figures = Figures(
            started_at=self.started.isoformat(),
            baseline=baseline,
            stages=tuple(stages),
            warnings=tuple(self.tracker.warnings),
        )
        done = StepsDone(figures, outputs, network, self.tracker.seconds)
        self.checkpoints.keep_steps(done)
        return done

    def _tell_stage(self, stage: Literal["baseline", "step", "final"], measurement: Measurement, **step: Any) -> None:
        # Without the table of layers, which the report has: events are read while the job runs, and kept for long.
        self.emit(StageDone(stage=stage, measurement=measurement.model_copy(update={"layers": ()}), **step))

    def _take_step(self, network: Network, step: Step, index: int, inputs: Inputs) -> tuple[StepResult, float]:
        """What the step made, and the seconds that earlier attempts spent on it.

        A checkpoint that is of no use costs what it saved. A batch that a GPU cannot hold is tried once more in
        halves, from the step's beginning or its latest checkpoint.
        """
        # Not the same numbers in every step, which would draw the same order and augmentation again.
        seed = (self.recipe.seed + index) % 2**32
        context = StepContext(
            original=inputs.original,
            data=inputs.data,
            seed=seed,
            device=self.device,
            on_progress=self._tell_training,
            students=inputs.students,
            ranks=self.ranks,
            checkpoints=self.checkpoints.of_step(index),
            answers=self.answers,
        )
        before = context.checkpoints.seconds
        while True:
            _seed(seed)
            try:
                result = STEPS[step.kind](network, step, context)
            except UnusableCheckpoint as error:
                context = replace(context, checkpoints=self.checkpoints.of_step_anew(index, error))
                before = 0.0
                continue
            except BatchTooLarge as error:
                if not error.of_gpu or context.accumulation == HALVES:
                    raise
            else:
                if result.training is not None and result.training.accumulation > 1:
                    self.tracker.warn(halved(step, index))  # the attempt that found it out may have been an earlier one
                return result, before
            # Here, where the error is gone, and with it what it held.
            self.tracker.warn(halved(step, index))
            free_memory(self.device)
            context = replace(context, accumulation=HALVES, checkpoints=self.checkpoints.of_step(index))

    def _tell_training(self, progress: TrainingProgress) -> None:
        metrics = {name: value for name, value in progress.metrics.items() if name != "epoch"}
        place = (self.tracker.step, progress.epoch)
        if place != self.logged_epoch and "loss" in metrics:  # one line an epoch is what a reader of the log wants
            self.logged_epoch = place
            figures = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            LOG.info("epoch %d of %d: %s", progress.epoch, progress.epochs, figures)
        # The measurement that follows a training is the last twentieth of its step.
        self.tracker.advance(0.95 * progress.fraction, epoch=progress.epoch, epochs=progress.epochs, metrics=metrics)


def _memory_advice(step: Step) -> str:
    training = step_training(step)
    if training is None:
        return "use a machine with more memory"
    return f"lower its `training.batch_size` (now {training.batch_size}), or use a machine with more memory"


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
