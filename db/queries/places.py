"""Where waiting jobs stand: how many are taken before each, when each is expected to start, and what it waits for.

A worker computes on the processor or on GPUs, and takes jobs for either and for any: these are the two lanes. A job's
position is that in its lane, by the rule of `db.queries.turns`, if from now on nothing came, ended or was cancelled. A
job that may run on any device has the better of its two positions. What jobs need beside the device is not looked at:
those ahead that fit no worker make a position too large, never too small.

The position needs no walk through the queue. A team that holds h jobs has its next one taken when all teams hold h, so
the k-th waiting job of a team is taken in round h + k; before it come, of each other team, the waiting jobs of earlier
rounds, and of the same round where that team's turn is earlier. At the start of a round those teams that wait for
their first one come first, in the order of their turns, as they were served longest ago; then those that came one
round earlier, and so on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from statistics import median

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Job, Team
from db.queries.transitions import HELD
from db.queries.workers import live_workers
from modelpress.spec.needs import Capacity, Device, Least, Needs
from modelpress.spec.state import JobState
from modelpress.spec.waiting import Waiting, WaitingReason

RECENT = 50
"""Jobs that ended last, of which the usual duration is taken."""

_LANES: tuple[Device, ...] = ("cpu", "cuda")
_TURN = Waiting(reason=WaitingReason.TURN, message="it is taken when its turn comes")


# Ten years: beyond, a start says nothing, and beyond some thousands of them there is no date for it.
_FURTHEST_SECONDS = 10 * 365 * 86_400.0


@dataclass(frozen=True)
class Place:
    """Where a waiting job stands."""

    position: int  # 1 is taken next
    expected_start: datetime | None  # None where there is nothing to go by
    waiting: Waiting


@dataclass
class Standing:
    """A team in the queue."""

    held: int = 0  # jobs that workers hold
    turn: int = 0
    waiting: dict[Device, int] = field(default_factory=lambda: dict.fromkeys(_LANES, 0))  # that this lane can take


def places(session: Session, jobs: Sequence[Job]) -> dict[str, Place]:
    """The place of each of these jobs that is queued, by its id. It changes without a change of the job's version."""
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    if not queued:
        return {}
    standings = _standings(session)
    ahead = _ahead_in_team(session, queued)
    workers = live_workers(session)
    schedules = _Schedules(session, workers)
    found = {}
    for job in queued:
        # A job that was taken between our two looks counts as the next.
        own = ahead.get(job.id, dict.fromkeys(_LANES, 0))
        lanes = {lane: position(standings, job.team_id, own[lane], lane) for lane in _lanes(job, workers)}
        begins = [begin for lane, place in lanes.items() if (begin := schedules.start(job, lane, place))]
        found[job.id] = Place(min(lanes.values()), min(begins, default=None), _waiting(job, workers))
    return found


def position(standings: Mapping[str, Standing], team_id: str, ahead: int, lane: Device) -> int:
    """Place in the lane of a team's job that has so many of its own team's before it; 1 is next."""
    own = standings.get(team_id, Standing())
    taken_in = own.held + ahead
    before = ahead
    for other_id, other in standings.items():
        if other_id != team_id:
            first = (-other.held, other.turn, other_id) < (-own.held, own.turn, team_id)
            before += min(other.waiting[lane], max(0, taken_in - other.held + first))
    return before + 1


def starts(free: Sequence[float], duration: float | None) -> Iterator[float]:
    """In how many seconds the first job of the queue starts, the second, and so on.

    `free` says in how many seconds each worker is free, infinity where nobody knows; each job takes `duration` seconds.
    It ends where that is not enough to go by.
    """
    ends = list(free)
    heapq.heapify(ends)
    while ends and ends[0] < math.inf:
        yield heapq.heapreplace(ends, ends[0] + (math.inf if duration is None else duration))


class _Schedules:
    """When workers are expected to be free."""

    def __init__(self, session: Session, workers: Mapping[str, Capacity]) -> None:
        self._workers = workers
        self._now: datetime = session.execute(select(now())).scalar_one()
        self._duration = _usual_seconds(session)
        self._busy = self._busy_seconds(session) if workers else {}
        # So far, and those ahead.
        self._started: dict[tuple[Needs, Least, Device], tuple[list[float], Iterator[float]]] = {}

    def start(self, job: Job, lane: Device, place: int) -> datetime | None:
        """Expected start of a job at this place in the lane, to the second."""
        needs, least = job.spec.needs, _least(job)
        if (needs, least, lane) not in self._started:
            free = [
                self._busy.get(name, 0.0)
                for name, capacity in self._workers.items()
                if capacity.device == lane and not capacity.lacks(needs, least)
            ]
            # Before any job has ended, those ahead are taken to be like this one.
            own = None if job.estimate is None else job.estimate.seconds(lane)
            self._started[needs, least, lane] = [], starts(free, own if self._duration is None else self._duration)
        found, ahead = self._started[needs, least, lane]
        found.extend(islice(ahead, max(0, place - len(found))))
        if len(found) < place or found[place - 1] > _FURTHEST_SECONDS:
            return None
        return (self._now + timedelta(seconds=found[place - 1])).replace(microsecond=0)

    def _busy_seconds(self, session: Session) -> dict[str, float]:
        """In how many seconds each worker that holds a job is free."""
        held = select(Job.worker, Job.started_at, Job.progress, Job.estimate).where(Job.state.in_(HELD))
        busy = {}
        for worker, started_at, progress, estimate in session.execute(held):
            capacity = self._workers.get(worker)
            # What was estimated of this very job says more than what others took.
            estimated = estimate.seconds(capacity.device) if estimate is not None and capacity is not None else None
            duration = self._duration if estimated is None else estimated
            if progress is not None and progress.eta_seconds is not None:
                left = progress.eta_seconds
            elif duration is not None and started_at is not None:
                left = duration - (self._now - started_at).total_seconds()
            else:
                left = math.inf
            busy[worker] = max(0.0, left)
        return busy


def _standings(session: Session) -> dict[str, Standing]:
    """The teams with jobs that wait or are held. Counted in the index of turns: finished jobs cost nothing."""
    standings: dict[str, Standing] = {}
    counts = (
        select(Job.team_id, Job.state, Job.needs_device, func.count())
        .where(Job.state.in_((JobState.QUEUED, *HELD)))
        .group_by(Job.team_id, Job.state, Job.needs_device)
    )
    for team_id, state, device, count in session.execute(counts):
        standing = standings.setdefault(team_id, Standing())
        if state is not JobState.QUEUED:
            standing.held += count
            continue
        for lane in _LANES:
            standing.waiting[lane] += count if device in ("any", lane) else 0
    turns = select(Team.id, Team.turn).where(Team.id.in_(standings))
    for team_id, turn in session.execute(turns):
        standings[team_id].turn = turn or 0
    return standings


def _ahead_in_team(session: Session, jobs: Collection[Job]) -> dict[str, dict[Device, int]]:
    """How many of its own team's waiting jobs each lane takes before each of these."""
    ahead = [
        func.coalesce(
            func.sum(case((Job.needs_device.in_(("any", lane)), 1), else_=0)).over(
                partition_by=Job.team_id, order_by=(Job.priority.desc(), Job.queued_at, Job.id), rows=(None, -1)
            ),
            0,
        ).label(lane)
        for lane in _LANES
    ]
    ranked = (
        select(Job.id.label("id"), *ahead)
        .where(Job.state == JobState.QUEUED, Job.team_id.in_({job.team_id for job in jobs}))
        .subquery()
    )
    rows = session.execute(select(ranked).where(ranked.c.id.in_([job.id for job in jobs])))
    return {row.id: {lane: int(getattr(row, lane)) for lane in _LANES} for row in rows}


def _usual_seconds(session: Session) -> float | None:
    """Median of how long the jobs ran that ended last, of all teams; None where none did."""
    last = (
        select(Job.started_at, Job.finished_at)
        .where(Job.finished_at.is_not(None), Job.reused_from.is_(None))
        .where(Job.started_at.is_not(None), Job.state != JobState.CANCELLED)
        .order_by(Job.finished_at.desc())
        .limit(RECENT)
    )
    seconds = [(finished_at - started_at).total_seconds() for started_at, finished_at in session.execute(last)]
    return median(seconds) if seconds else None


def _lanes(job: Job, workers: Mapping[str, Capacity]) -> Sequence[Device]:
    lanes = [lane for lane in _LANES if job.needs_device in ("any", lane)]
    return [lane for lane in lanes if any(worker.device == lane for worker in workers.values())] or lanes


def _least(job: Job) -> Least:
    return Least(
        cpu_memory_bytes=job.least_cpu_memory_bytes,
        cuda_memory_bytes=job.least_cuda_memory_bytes,
        gpu_memory_bytes=job.least_gpu_memory_bytes,
    )


def _waiting(job: Job, workers: Mapping[str, Capacity]) -> Waiting:
    if not workers:
        return Waiting(
            reason=WaitingReason.NO_WORKER, message="no worker is alive; it starts when the operator has started one"
        )
    lacking = [capacity.lacks(job.spec.needs, _least(job)) for capacity in workers.values()]
    if not all(lacking):
        return _TURN
    nearest = min(lacking, key=len)
    return Waiting(
        reason=WaitingReason.NO_FITTING_WORKER,
        message=f"no worker that is alive has what it needs; the nearest lacks {', '.join(nearest.values())}. It "
        "starts when such a worker is there; or cancel it, and submit it with other `needs`",
    )
