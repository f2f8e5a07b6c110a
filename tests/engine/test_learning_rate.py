from __future__ import annotations

import math

import pytest

from modelpress.engine.learning_rate import learning_rate
from modelpress.spec.training import Training


def test_learning_rates():
    def rates(schedule: str, steps: int) -> list[float]:
        training = Training(learning_rate=0.4, schedule=schedule)
        return [learning_rate(training, step, steps) for step in range(steps)]

    assert rates("constant", 3) == [0.4, 0.4, 0.4]
    assert rates("cosine", 4) == pytest.approx([0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))])
    one_cycle = rates("one_cycle", 20)
    assert one_cycle[:3] == pytest.approx([0.2, 0.4, 0.4 * 18 / 19])
    assert one_cycle[-1] == pytest.approx(0.4 / 19)
    assert rates("one_cycle", 1) == pytest.approx([0.4])
    assert rates("step", 8) == pytest.approx([0.4] * 4 + [0.04] * 2 + [0.004] * 2)


def test_step_schedule_with_warm_up():
    training = Training(learning_rate=0.8, schedule="step", milestones=(0.3, 0.6, 0.9), step_factor=0.5, warm_up=0.2)
    rates = [learning_rate(training, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.4, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_a_warm_up_rises_to_the_schedule(schedule: str):
    warm, plain = Training(schedule=schedule, warm_up=0.25), Training(schedule=schedule)
    shares = [learning_rate(warm, step, 16) / learning_rate(plain, step, 16) for step in range(16)]
    assert shares == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 13)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"milestones": (0.5, 0.5)}, "must rise"),
        ({"milestones": (0.5, 1.0)}, "less than 1"),
        ({"schedule": "one_cycle", "warm_up": 0.1}, "drop `warm_up`"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(fields: dict[str, object], reason: str):
    with pytest.raises(ValueError, match=reason):
        Training.model_validate(fields)
