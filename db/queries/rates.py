"""How fast the workers of this service compute, learned from the jobs that ended: what durations are estimated by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Attempt, Job, Worker
from modelpress.spec.cost import DEFAULT_RATES, Duration, JobEstimate
from modelpress.spec.needs import Capacity, Device, Needs
from modelpress.spec.state import JobState

RECENT = 50
"""Jobs that ended last, of which rates are taken."""

# A job that spent less than this share of its time on its work tells how long processes take to start, and no more.
_LEAST_SHARE = 0.3


@dataclass(frozen=True)
class _Run:
    """A job that was done in one go, all of it."""

    model_id: str
    device: Device
    rate: float  # multiply-accumulates a second, of one core or of one worker's GPUs


def with_durations(
    session: Session, estimate: JobEstimate, model_id: str, needs: Needs, capacities: Iterable[Capacity]
) -> JobEstimate:
    """The estimate with how long the job will run: of workers of these capacities, on the quickest of each kind.

    By jobs of the same model where there are some, as networks differ in how well they use a machine; else by all.
    """
    runs = _runs(session)
    durations: dict[Device, Duration] = {}
    for capacity in capacities:
        if capacity.lacks(needs, estimate.least(needs)):
            continue
        device = capacity.device
        alike = [run for run in runs if run.device == device]
        rates = [run.rate for run in alike if run.model_id == model_id] or [run.rate for run in alike]
        rate = (median(rates) if rates else DEFAULT_RATES[device]) * _units(device, capacity.cores)
        seconds = round(estimate.fixed_seconds + estimate.macs / rate, 1)
        if device not in durations or seconds < durations[device].seconds:
            durations[device] = Duration(device=device, seconds=seconds, rough=not rates)
    return estimate.model_copy(update={"durations": tuple(durations.values())})


def _runs(session: Session) -> list[_Run]:
    last = (
        select(Job.id)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        # Fifty of these: what was cancelled, given another's result or begun by another job tells nothing, however much
        # of it there is.
        .where(
            Job.finished_at.is_not(None),
            Job.state == JobState.SUCCEEDED,
            Job.reused_from.is_(None),
            Job.estimate.is_not(None),
            Attempt.continues.is_(None),
        )
        .order_by(Job.finished_at.desc())
        .limit(RECENT)
        .scalar_subquery()
    )
    whole = (
        select(Job.model_id, Job.estimate, Attempt.started_at, Attempt.finished_at, Worker.device, Worker.cores)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .join(Worker, Worker.name == Attempt.worker)
        .where(Job.id.in_(last))
    )
    runs = []
    for model_id, estimate, started_at, finished_at, kind, cores in session.execute(whole):
        seconds = (finished_at - started_at).total_seconds()
        working = seconds - estimate.fixed_seconds
        if working > _LEAST_SHARE * seconds and estimate.macs > 0:
            device: Device = "cuda" if kind == "cuda" else "cpu"
            runs.append(_Run(model_id, device, estimate.macs / working / _units(device, cores)))
    return runs


def _units(device: Device, cores: int) -> int:
    return cores if device == "cpu" else 1
