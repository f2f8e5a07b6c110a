"""What was decided when a table was begun: a stopped run goes on with the same epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.slimnets.budget import BudgetTooSmall, Machine, Speed, shares
from benchmarks.slimnets.finished import write_text
from benchmarks.slimnets.runs import Run
from benchmarks.slimnets.scale import Scale
from modelpress.client import ModelPressError
from modelpress.spec.config import Resource

PLAN_FILE = "plan.json"
# Beside its training, of each job: processes that start, exports, latencies.
FIXED_SECONDS = 20.0
# Passes of the original over the test images in a job: its own accuracy, and what the result and its files take.
MEASURING_PASSES = 3


class OtherPlan(ModelPressError):
    """A table was begun with another budget; the message says which."""


class TablePlan(Resource):
    """Of one table."""

    minutes: float | None  # of the budget that it was given a part of; None for no limit, 0 for an epoch each
    share: float  # of the declared epochs


class Plan(Resource):
    """Kept as `plan.json` in the work folder."""

    tables: dict[int, TablePlan] = {}

    @property
    def shares(self) -> dict[int, float]:
        """By table."""
        return {number: table.share for number, table in self.tables.items()}


def machine(scale: Scale, original: str, speeds: dict[str, Speed]) -> Machine:
    """What runs of this scale cost here."""
    test_images = scale.test_images or 10_000
    return Machine(
        speeds=speeds,
        original=original,
        job_seconds=FIXED_SECONDS + MEASURING_PASSES * speeds[original].forward * test_images,
        train_images=scale.train_images or 50_000,
        tuning_images=scale.tuning_images,
    )


def kept_plan(folder: Path) -> Plan:
    """The plan of a work folder; an empty one where it has none."""
    path = folder / PLAN_FILE
    return Plan.model_validate_json(path.read_bytes()) if path.is_file() else Plan()


def keep_plan(plan: Plan, folder: Path) -> Plan:
    """Write the plan into its work folder; gives it back."""
    write_text(folder / PLAN_FILE, plan.model_dump_json(indent=1) + "\n")
    return plan


def planned(
    folder: Path, runs: Sequence[Run], scale: Scale, budget: float | None, here: Callable[[Sequence[Run]], Machine]
) -> Plan:
    """The plan of the work folder, tables that are new in it added; `here` says what their runs cost.

    Without a `budget`, minutes, that of the scale counts, and where it is too small every step gets one epoch. Raises
    OtherPlan when a table was begun with another budget, and BudgetTooSmall where the one that was given is.
    """
    minutes = scale.minutes if budget is None else budget
    plan = kept_plan(folder)
    for number in sorted({run.table for run in runs} & plan.tables.keys()):
        begun = plan.tables[number].minutes
        if begun != minutes:
            limit = "no limit" if begun is None else f"{begun:g} minutes"
            raise OtherPlan(f"{folder} has table {number} begun with {limit}: give --budget so, or another --work")
    new = [run for run in runs if run.table not in plan.tables]
    if new:
        try:
            found = shares(new, minutes, here(new) if minutes else None, scale.original_epochs)
        except BudgetTooSmall:
            if budget is not None:
                raise
            found = shares(new, 0, None, scale.original_epochs)
        added = {number: TablePlan(minutes=minutes, share=share) for number, share in found.items()}
        plan = keep_plan(Plan(tables=plan.tables | added), folder)
    return plan
