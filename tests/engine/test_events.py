"""Events as lines, thinned by a clock that the test turns; fractions by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelpress.engine.events import EventWriter, Phase, Tracker
from modelpress.engine.phases import first_phases, plan_phases
from modelpress.spec.event import EVENT, EngineEvent, Event, Progress, StageDone, Warned
from modelpress.spec.job import Recipe
from modelpress.spec.report import Measurement

MEASUREMENT = Measurement(measured_on="memory", parameters=10, nonzero_parameters=5, macs=20)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _progress(fraction: float, step: int = 0) -> Progress:
    return Progress(stage="step", step=step, steps=2, fraction=fraction)


def _lines(path: Path) -> list[Event]:
    return [EVENT.validate_json(line) for line in path.read_text().splitlines()]


def test_each_event_is_a_line_that_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events: list[Event] = [
        Warned(message="two\nlines"),
        StageDone(stage="baseline", measurement=MEASUREMENT),
        _progress(0.5),
    ]
    with EventWriter(path) as emit:
        for count, event in enumerate(events, start=1):
            emit(event)
            assert _lines(path) == events[:count]


def test_progress_is_thinned_to_two_a_second(tmp_path: Path) -> None:
    clock = Clock()
    with EventWriter(tmp_path / "events.jsonl", clock) as emit:
        for tick in range(41):  # four seconds, ten a second
            clock.now = 100.0 + tick / 10
            emit(_progress(tick / 40))
    fractions = [event.fraction for event in _lines(tmp_path / "events.jsonl") if isinstance(event, Progress)]
    assert fractions == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0])


def test_another_step_is_never_left_out(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "events.jsonl", Clock()) as emit:
        for step in range(3):
            emit(_progress(0.1, step))
            emit(_progress(0.2, step))
        emit(Warned(message="kept"))
    events = _lines(tmp_path / "events.jsonl")
    assert [event.step for event in events if isinstance(event, Progress)] == [0, 1, 2]
    assert events[-1] == Warned(message="kept")


PHASES = [
    Phase("loading", 1.0),
    Phase("step", 6.0, 0, "prune"),
    Phase("step", 2.0, 1, "finetune"),
    Phase("artifacts", 1.0),
]


def test_fraction_and_time_left_by_hand() -> None:
    events: list[Event] = []
    clock = Clock()
    tracker = Tracker(events.append, PHASES, clock)
    tracker.enter("loading")
    clock.now += 2.0
    tracker.enter("step", 0)
    clock.now += 6.0
    tracker.advance(0.5, epoch=3, epochs=6, metrics={"loss": 0.25})
    clock.now += 6.0
    tracker.enter("step", 1)
    tracker.finish()
    first, second, third, fourth, last = (event for event in events if isinstance(event, Progress))
    assert (first.fraction, first.eta_seconds, first.steps) == (0.0, 10.0, 2)
    # Two seconds behind, estimates of 6 + 2 + 1 ahead.
    assert second.eta_seconds == pytest.approx(9.0)
    assert second.fraction == pytest.approx(2 / 11)
    # Half in 6 s, so 6 s more, twice the estimate: the next step is taken to need 4 instead of 2, then 1.
    assert third.eta_seconds == pytest.approx(11.0)
    assert third.fraction == pytest.approx(8 / 19)
    assert (third.step, third.step_kind, third.epoch, third.epochs, third.metrics) == (0, "prune", 3, 6, {"loss": 0.25})
    assert fourth.eta_seconds == pytest.approx(5.0)
    assert (fourth.fraction, fourth.step_kind, fourth.metrics) == (pytest.approx(14 / 19), "finetune", {})
    assert (last.stage, last.fraction, last.eta_seconds) == ("done", 1.0, 0.0)


def test_a_phase_that_outlasts_its_estimate_has_no_time_left_of_its_own() -> None:
    events: list[Event] = []
    clock = Clock()
    tracker = Tracker(events.append, PHASES, clock)
    tracker.enter("artifacts")
    clock.now += 60.0
    tracker.advance(0.0)
    assert isinstance(events[-1], Progress)
    assert (events[-1].fraction, events[-1].eta_seconds) == (0.99, 0.0)


def test_a_new_plan_never_turns_the_bar_back() -> None:
    events: list[Event] = []
    clock = Clock()
    tracker = Tracker(events.append, PHASES, clock)
    tracker.enter("loading")
    clock.now += 3.0
    tracker.advance(1.0)
    tracker.plan([Phase("step", 94.0, 0, "prune"), Phase("artifacts", 3.0)])
    tracker.enter("step", 0)
    clock.now += 47.0
    tracker.advance(0.5)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.fraction for event in progress] == pytest.approx([0.0, 0.25, 0.25, 0.5])
    assert progress[-1].eta_seconds == pytest.approx(50.0)
    assert [event.steps for event in progress] == [2, 2, 1, 1]


def test_warnings_are_told_and_kept() -> None:
    events: list[Event] = []
    tracker = Tracker(events.append, PHASES, Clock())
    tracker.warn("look")
    assert tracker.warnings == ["look"]
    assert events == [Warned(message="look")]


def test_trainings_take_most_and_by_their_length() -> None:
    cropped = {"crop_padding": 4}  # so that the teacher is asked anew in every epoch
    recipe = Recipe.model_validate(
        {
            "steps": [
                {"kind": "prune", "sparsity": 0.5},
                {"kind": "finetune", "training": {"epochs": 10}},
                {"kind": "finetune", "training": {"epochs": 10, "teacher": "original", "augmentation": cropped}},
            ]
        }
    )
    phases = plan_phases(recipe, 400_000_000, 50_000, 10_000, torch.device("cpu"))
    assert [(phase.stage, phase.step) for phase in phases] == [
        (phase.stage, phase.step) for phase in first_phases(recipe)[1:]
    ]
    baseline, prune, finetune, taught, artifacts, verification = (phase.seconds for phase in phases)
    assert min(baseline, prune, artifacts, verification) > 0
    assert finetune > 0.3 * sum(phase.seconds for phase in phases)
    # Forward and backward are three passes, the teacher's forward a fourth.
    assert (taught - prune) / (finetune - prune) == pytest.approx(4 / 3)


def test_a_later_attempt_begins_where_the_one_before_was() -> None:
    clock = Clock()
    events: list[EngineEvent] = []
    tracker = Tracker(events.append, [Phase("loading", 2), *(Phase("step", 50, step) for step in range(2))], clock)
    tracker.enter("loading")
    tracker.warn("of the model")
    tracker.go_on(60.0, ["of the model", "of the original"])
    clock.now += 2.0
    tracker.enter("step", 1)
    progress = events[-1]
    assert isinstance(progress, Progress)
    assert progress.fraction == pytest.approx((60 + 2) / (60 + 2 + 50))
    assert tracker.seconds == 62.0
    tracker.warn("of the original")  # once more, by an attempt that loads it once more
    tracker.warn("of the result")
    assert tracker.warnings == ["of the model", "of the original", "of the result"]
    told = [event.message for event in events if isinstance(event, Warned)]
    assert told == ["of the model", "of the result"]
