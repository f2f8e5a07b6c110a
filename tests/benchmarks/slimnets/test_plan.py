"""The plan: made once for each table, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.slimnets.budget import BudgetTooSmall, Machine
from benchmarks.slimnets.plan import OtherPlan, machine, planned
from benchmarks.slimnets.runs import Run
from benchmarks.slimnets.scale import SCALES
from tests.benchmarks.slimnets.test_budget import LABELS, MACHINE, PRUNED

SCALE = SCALES["full"]


def test_a_table_keeps_its_share_and_others_are_added(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def here(runs: Sequence[Run]) -> Machine:
        asked.append([run.name for run in runs])
        return MACHINE

    first = planned(tmp_path, [PRUNED], SCALE, 10.0, here)
    assert planned(tmp_path, [PRUNED], SCALE, 10.0, here) == first
    both = planned(tmp_path, [PRUNED, LABELS], SCALE, 10.0, here)
    assert both.shares[1] == first.shares[1]
    assert both.shares.keys() == {1, 3, 5}
    # The networks are timed only where there is something to plan.
    assert asked == [["pruned"], ["labels"]]
    with pytest.raises(OtherPlan, match=r"table 1 begun with 10 minutes: give --budget so, or another --work"):
        planned(tmp_path, [PRUNED], SCALE, 11.0, here)


def test_what_a_job_takes_beside_its_training_follows_from_the_test_images() -> None:
    speeds = dict(MACHINE.speeds)
    found = machine(SCALES["short"], MACHINE.original, speeds)
    assert found.job_seconds == 20 + 3 * 0.25 * 500
    assert (found.images("final"), found.images("tuning")) == (2_500, 2_250)
    assert machine(SCALE, MACHINE.original, speeds).images("tuning") == 45_000


def test_a_budget_that_is_too_small_is_refused_only_where_it_was_given(tmp_path: Path) -> None:
    scale = replace(SCALE, minutes=0.3)
    with pytest.raises(BudgetTooSmall):
        planned(tmp_path, [PRUNED], scale, 0.3, lambda _: MACHINE)
    assert planned(tmp_path, [PRUNED], scale, None, lambda _: MACHINE).shares == {1: 0.0}
