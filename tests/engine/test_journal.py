"""What is counted as training, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from modelpress.engine import journal
from modelpress.engine.journal import Journal, TrainingProgress
from modelpress.spec.training import Training

CPU = torch.device("cpu")
TRAINING = Training(epochs=1)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(journal, "time", made)
    return made


def begun(tell: Callable[[TrainingProgress], None] | None = None) -> Journal:
    return Journal(TRAINING, 100, CPU, tell)


def step(made: Journal, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    made.note(torch.tensor([1.0, 2.0, 8.0]), 8, epoch=1, learning_rate=0.1)


def test_answers_of_a_teacher_are_no_training(clock: Clock):
    told: list[TrainingProgress] = []
    made = begun(told.append)
    with made.aside():
        clock.now += 60
        made.note_answers(1.0)
    step(made, clock, 2)
    assert made.images_per_second == pytest.approx(4)
    assert [one.metrics for one in told[:1]] == [{"teacher_answers": 1.0}]
    # They are given once: 99 steps at 2 s.
    assert told[-1].metrics["seconds_left"] == pytest.approx(198)


def test_what_comes_again_counts_for_the_time_that_is_left(clock: Clock):
    told: list[TrainingProgress] = []
    made = begun(told.append)
    step(made, clock, 2)
    with made.aside():
        clock.now += 1
    step(made, clock, 2)
    assert made.images_per_second == pytest.approx(4)
    assert told[-1].metrics["seconds_left"] == pytest.approx(98 * 2.5)


@pytest.mark.parametrize("steps", [0, 1])
def test_one_that_was_broken_off_aside_goes_on_as_if_it_had_not_been(clock: Clock, steps: int):
    told: list[TrainingProgress] = []
    made = begun()
    for _ in range(steps):
        step(made, clock, 2)
    with made.aside():
        clock.now += 60
        made.note_answers(0.5)
        kept = made.snapshot()
        clock.now += 1000  # of which nobody knows
    clock.now += 5000
    resumed = begun(told.append)
    resumed.resume(kept)
    step(resumed, clock, 2)
    assert resumed.images_per_second == pytest.approx(4)
    spent = 2 * (steps + 1) + (60 if steps else 0)
    assert told[-1].metrics["seconds_left"] == pytest.approx(spent * (99 - steps) / (steps + 1))


def test_an_epoch_ends_when_its_loss_is_known(clock: Clock):
    made = begun()
    step(made, clock, 0.25)
    clock.now += 1.75  # that a GPU still computes
    made.close_epoch()
    assert made.images_per_second == pytest.approx(4)
