"""The workers that carry out jobs, as their rows say: what each has, and until when it counts as alive.

A row is renewed while its process lives, by the database's clock, and outlives it for `KNOWN_SECONDS`: what a worker
had that went yesterday may come back tomorrow.
"""

from __future__ import annotations

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.orm import Session

from db.clock import now, now_plus
from db.models import Worker
from modelpress.spec.needs import Capacity

KNOWN_SECONDS = 7 * 86_400.0

REMEMBERED = 20
"""Processes of one kind that are remembered when they are gone."""


def renew_worker(session: Session, name: str, capacity: Capacity, seconds: float) -> None:
    """This worker is there, has this capacity, and counts as alive for so many seconds; its row is made at need."""
    renewed = session.scalar(
        update(Worker)
        .where(Worker.name == name)
        .values(expires_at=now_plus(seconds), **capacity.model_dump())
        .returning(Worker.name)
        .execution_options(synchronize_session=False)
    )
    if renewed is not None:
        return
    # Of a kind that went some rows are remembered, however often its workers were started anew: those whose jobs tell
    # how fast they are (`db.queries.rates`).
    alike = and_(*(getattr(Worker, name) == value for name, value in capacity.model_dump().items()))
    latest = select(Worker.name).where(alike).order_by(Worker.expires_at.desc()).limit(REMEMBERED)
    forgotten = or_(and_(alike, Worker.name.not_in(latest)), Worker.expires_at < now_plus(-KNOWN_SECONDS))
    gone = and_(Worker.expires_at < now(), forgotten)
    session.execute(delete(Worker).where(gone).execution_options(synchronize_session=False))
    session.add(Worker(name=name, expires_at=now_plus(seconds), **capacity.model_dump()))
    session.flush()


def retire_worker(session: Session, name: str) -> None:
    """This worker ends in order."""
    session.execute(
        update(Worker)
        .where(Worker.name == name, Worker.expires_at > now())
        .values(expires_at=now())
        .execution_options(synchronize_session=False)
    )


def live_workers(session: Session) -> dict[str, Capacity]:
    """What each worker has that is alive, by its name."""
    return _capacities(session, 0.0)


def known_capacities(session: Session) -> list[Capacity]:
    """What workers have, or had within `KNOWN_SECONDS`; each kind of worker once."""
    kinds: list[Capacity] = []
    for capacity in _capacities(session, -KNOWN_SECONDS).values():
        if capacity not in kinds:
            kinds.append(capacity)
    return kinds


def _capacities(session: Session, since: float) -> dict[str, Capacity]:
    rows = session.scalars(select(Worker).where(Worker.expires_at > now_plus(since)).order_by(Worker.name))
    return {
        row.name: Capacity(
            device="cuda" if row.device == "cuda" else "cpu",
            cores=row.cores,
            memory_bytes=row.memory_bytes,
            gpu_memory_bytes=row.gpu_memory_bytes,
            gpus=row.gpus,
        )
        for row in rows
    }
