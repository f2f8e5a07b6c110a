"""What the engine says while it works: lines of `events.jsonl`, and how far the whole job has come.

A job is a row of phases (load, baseline, each step, artifacts, verification), each with an estimate of its seconds on a
nominal machine. The time left is that of the phase at work, from its own speed so far, plus the estimates of those
ahead, where steps are scaled by how the steps so far kept to theirs. The fraction is the time spent over the whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from modelpress.spec.event import EngineEvent, Progress, StageName, Warned

LOG = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
# Before this share of a phase is done, its own speed says less than the estimate.
_MEASURED_FROM = 0.02
_LAST = 0.99


class EventWriter:
    """Appends events to a file, one line of JSON each, flushed at once; thins out progress to two lines a second.

    A progress that enters another stage or step is always written, so that no stage goes unseen.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._clock = clock
        self._place: tuple[StageName, int | None] | None = None
        self._written_at = 0.0

    def __call__(self, event: EngineEvent) -> None:
        """Write one event, or leave it out when it is a progress that follows another too soon."""
        if isinstance(event, Progress):
            place = (event.stage, event.step)
            if place == self._place and self._clock() - self._written_at < PROGRESS_SECONDS:
                return
            self._place, self._written_at = place, self._clock()
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


@dataclass(frozen=True)
class Phase:
    """A part of the job, and its seconds on a nominal machine."""

    stage: StageName
    seconds: float
    step: int | None = None
    step_kind: str | None = None


class Tracker:
    """Turns phases and what happens in them into `Progress` events with the fraction of the whole and the time left."""

    def __init__(
        self, emit: Callable[[EngineEvent], None], phases: Sequence[Phase], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._phases = list(phases)
        self._clock = clock
        self._started = self._phase_started = clock()
        self._current: Phase | None = None
        self._share = 0.0
        self._pace = 1.0  # seconds of the last step over its estimate
        self._fraction = 0.0
        self.warnings: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the beginning, with what earlier attempts spent."""
        return self._clock() - self._started

    def go_on(self, seconds: float, warnings: Sequence[str]) -> None:
        """Take up the work of an earlier attempt, which has spent so many seconds and told these warnings."""
        self._started -= seconds
        self.warnings = list(dict.fromkeys((*warnings, *self.warnings)))

    @property
    def steps(self) -> int:
        """Number of steps in the recipe."""
        return sum(phase.stage == "step" for phase in self._phases)

    @property
    def step(self) -> int | None:
        """Index of the step at work; None outside steps."""
        return self._current.step if self._current is not None else None

    def plan(self, phases: Sequence[Phase]) -> None:
        """Replace the phases that have not begun, once more is known about them."""
        begun = self._phases.index(self._current) + 1 if self._current is not None else 0
        self._phases[begun:] = phases

    def enter(self, stage: StageName, step: int | None = None) -> None:
        """Begin the phase of this stage and step; those before it count as done."""
        now = self._clock()
        if self._current is not None and self._current.stage == "step":
            self._pace = (now - self._phase_started) / self._current.seconds
        self._current = next(phase for phase in self._phases if (phase.stage, phase.step) == (stage, step))
        self._phase_started, self._share = now, 0.0
        LOG.info("%s", stage if step is None else f"step {step + 1} of {self.steps} ({self._current.step_kind})")
        self.advance(0.0)

    def advance(
        self,
        share: float,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Say that `share` (0..1) of the phase at work is done."""
        if self._current is None:
            return
        self._share = min(1.0, max(0.0, share))
        left = self._seconds_left(self._current)
        elapsed = self._clock() - self._started
        # A bar never goes back, though an estimate may turn out to have been too low, nor is it full before the end.
        fraction = elapsed / (elapsed + left) if elapsed + left > 0 else 0.0
        self._fraction = min(_LAST, max(self._fraction, fraction))
        self._emit(
            Progress(
                stage=self._current.stage,
                step=self._current.step,
                steps=self.steps,
                step_kind=self._current.step_kind,
                fraction=self._fraction,
                eta_seconds=left,
                epoch=epoch,
                epochs=epochs,
                metrics=dict(metrics or {}),
            )
        )

    def _seconds_left(self, current: Phase) -> float:
        spent, pace = self._clock() - self._phase_started, self._pace
        estimate = current.seconds * (pace if current.stage == "step" else 1.0)
        if self._share >= _MEASURED_FROM:
            estimate = spent / self._share
            if current.stage == "step":
                pace = estimate / current.seconds
        left = max(0.0, estimate - spent)
        for phase in self._phases[self._phases.index(current) + 1 :]:
            left += phase.seconds * (pace if phase.stage == "step" else 1.0)
        return left

    def finish(self) -> None:
        """Say that all is done."""
        self._emit(Progress(stage="done", steps=self.steps, fraction=1.0, eta_seconds=0.0))

    def warn(self, message: str) -> None:
        """Tell the user something that does not stop the job; kept for the report. Once is enough."""
        if message in self.warnings:
            return
        LOG.warning("%s", message)
        self.warnings.append(message)
        self._emit(Warned(message=message))
