"""When and how far the sparsity grows during a training, and how many weights are exchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelpress.spec.steps import Cubic, Iterative, OneShot, RigL


def cubic_sparsity(initial: float, final: float, share: float) -> float:
    """s_t = s_f + (s_i - s_f) (1 - share)^3, where share = (t - t_0) / (n dt) (Zhu and Gupta 2017, equation 1).

    With s_i = 0 and s_f = 0.8, half-way: 0.8 - 0.8 / 8 = 0.7.
    """
    return final + (initial - final) * (1 - min(max(share, 0.0), 1.0)) ** 3


def even_sparsity(initial: float, final: float, share: float) -> float:
    """s_i + share (s_f - s_i): the same again in every round."""
    return initial + (final - initial) * share if share < 1 else final


def rounds(schedule: Iterative, steps: int, *, trained_first: bool = False) -> dict[int, float]:
    """The share of the way that is reached after each step (from 1) of a training on which a round falls.

    The first round comes before the training, at step 0, and the others are spread evenly up to `end`; or all of them
    are, each behind a part of the training, when `trained_first`. Where a training has fewer steps than rounds, those
    that fall on the same step come at once. Three rounds up to the middle of 8 steps: {0: 1/3, 2: 2/3, 4: 1}.
    """
    last = max(1, round(schedule.end * steps))
    first, parts = (1, schedule.rounds) if trained_first else (0, schedule.rounds - 1)
    return {
        max(first, round(last * (index + first) / parts)): (index + 1) / schedule.rounds
        for index in range(schedule.rounds)
    }


def dropped_share(schedule: RigL, step: int, steps: int) -> float:
    """f(t) = alpha / 2 (1 + cos(t pi / T_end)), of a layer's remaining weights (Evci et al. 2020, section 3 (2)).

    `step` t is counted from 1. With alpha = 0.3: half-way 0.15, and 0 at T_end and behind it.
    """
    last = schedule.last(steps)
    return schedule.drop / 2 * (1 + math.cos(math.pi * min(step, last) / last))


def complete_from(schedule: OneShot | Cubic | Iterative | RigL, steps: int) -> int:
    """The step of a training, from 1, after which no mask changes any more; 0 when none does from the start."""
    if isinstance(schedule, Iterative):
        return max(rounds(schedule, steps))
    if isinstance(schedule, RigL):
        return max(schedule.updates(steps), default=0)
    return Updates.of(schedule, steps).end if isinstance(schedule, Cubic) else 0


@dataclass(frozen=True)
class Updates:
    """The steps of one training after which masks are updated."""

    begin: int
    end: int
    frequency: int

    @classmethod
    def of(cls, schedule: Cubic, steps: int) -> Updates:
        """The schedule over a training of so many steps; the last update falls on a step of the training."""
        begin = min(round(schedule.begin * steps), steps - 1)
        end = min(max(round(schedule.end * steps), begin + 1), steps)
        return cls(begin, end, schedule.frequency)

    def share(self, step: int) -> float | None:
        """How far the schedule is at this step (from 1), 0..1; None when no update is due."""
        if not self.begin <= step <= self.end:
            return None
        if step != self.end and (step - self.begin) % self.frequency != 0:
            return None
        return (step - self.begin) / (self.end - self.begin)
