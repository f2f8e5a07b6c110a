"""The checkpoints of a job, by which the next attempt goes on.

    steps.safetensors     what the completed steps made: the network, their figures, the original's measurement
    training.safetensors  the training at work, of the step behind those

Whoever started the engine is told of each file that was written, and lays both into the folder of the next attempt.
A file that cannot be used costs what it saved: without the one the step starts anew, without the other the job does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import Field
from torch import Tensor

from modelpress.engine.checkpoints.folder import CheckpointFolder, Head
from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint, part_of
from modelpress.engine.checkpoints.step import KeptStep, StepCheckpoints
from modelpress.engine.checkpoints.stored_network import network_snapshot, restored_network
from modelpress.engine.network import Network
from modelpress.spec.config import Resource
from modelpress.spec.report import Measurement, Stage

LOG = logging.getLogger(__name__)


class Figures(Resource):
    """What the report will say of all that is done."""

    started_at: str = Field(description="When the first attempt began, UTC.")
    baseline: Measurement
    stages: tuple[Stage, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepsDone:
    """What the completed steps made."""

    figures: Figures
    original_outputs: Tensor | None  # on the held-out images (N, K); None without any
    network: Network | None  # None while no step is completed: it still is the original
    seconds: float  # that were spent on the job so far


class JobCheckpoints:
    """What is kept of one job, and what an earlier attempt left of it."""

    def __init__(self, folder: CheckpointFolder, every: float | None, warn: Callable[[str], None]) -> None:
        """Trainings are kept every so many seconds; with None nothing is, and what was left is used all the same.

        `warn` is told of what cannot be used.
        """
        self._folder, self._every, self._warn = folder, every, warn

    def steps_done(self) -> StepsDone | None:
        """What an earlier attempt left; None where it left nothing that can be used."""
        try:
            left = self._folder.read("steps")
            if left is None:
                self._folder.forget("training")  # of no use without
                return None
            done = _steps_done(*left)
        except UnusableCheckpoint as error:
            self._warn(f"the checkpoint of an earlier attempt is not used: {error}; the job starts from its beginning")
            self._folder.forget("steps", "training")
            return None
        LOG.info("an earlier attempt completed the baseline and %d steps", len(done.figures.stages))
        return done

    def reused_steps(self, job: str) -> StepsDone | None:
        """What the first steps of another job made; None where that cannot be used.

        Its measurement of the original is of another machine, or another hour: what this job's own figures are set
        against is measured by itself.
        """
        try:
            done = _steps_done(*self._folder.read_reused())
        except UnusableCheckpoint as error:
            self._warn(f"what the job {job} has made is not used: {error}; the job starts from its beginning")
            return None
        LOG.info("the first %d steps are those of the job %s", len(done.figures.stages), job)
        stages = tuple(
            stage.model_copy(update={"reused_from": stage.reused_from or job}) for stage in done.figures.stages
        )
        return replace(done, figures=done.figures.model_copy(update={"stages": stages}))

    def keep_steps(self, done: StepsDone) -> None:
        """Keep this in the place of what was kept before, the training of the latest step too."""
        if self._every is None:
            return
        outputs, network = done.original_outputs, done.network
        parts = {
            "figures": Snapshot(facts=done.figures.model_dump(mode="json")),
            "outputs": Snapshot({} if outputs is None else {"original": outputs}),
        }
        if network is not None:
            parts["network"] = network_snapshot(network)
        stages = done.figures.stages
        # What was trained in halves, for want of memory, is not what other jobs ask for.
        whole = all(stage.training is None or stage.training.accumulation == 1 for stage in stages)
        self._folder.write("steps", parts, step=len(stages), seconds=done.seconds, is_as_asked=whole)
        self._folder.forget("training")

    def of_step(self, index: int) -> StepCheckpoints:
        """Those of a step that begins, with what an earlier attempt left of it where that can be used."""
        try:
            return KeptStep(self._folder, index, self._every)
        except UnusableCheckpoint as error:
            return self.of_step_anew(index, error)

    def of_step_anew(self, index: int, error: UnusableCheckpoint) -> StepCheckpoints:
        """Those of a step that starts from its beginning, as what was left of it cannot be used for this reason."""
        self._warn(f"the checkpoint of step {index} is not used: {error}; the step starts from its beginning")
        self._folder.forget("training")
        return KeptStep(self._folder, index, self._every)


def _steps_done(head: Head, whole: Snapshot) -> StepsDone:
    """What a file of completed steps holds. Raises UnusableCheckpoint."""
    figures = part_of(whole, "figures").read(Figures)
    outputs = part_of(whole, "outputs").tensors.get("original")
    outputs = None if outputs is None else outputs.clone()
    network = restored_network(part_of(whole, "network")) if head.step > 0 else None
    if len(figures.stages) != head.step:
        raise UnusableCheckpoint("it does not tell what its steps did")
    return StepsDone(figures, outputs, network, head.seconds)
