"""Is the process alive, can it work, and how much does it do? For those who run it; no key needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Literal

import structlog
from fastapi import APIRouter, Response
from pydantic import Field

from api.dependencies import Services, ServicesParam
from api.metrics import CONTENT_TYPE
from api.openapi import answer
from db.database import Database
from modelpress.spec.config import Resource
from service.jail.walls import active_walls

router = APIRouter(tags=["health"])

CHECK_SECONDS = 10.0
"""A part that has not answered by then is taken for dead."""

log = structlog.get_logger("api.health")


class Alive(Resource):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Check(Resource):
    """Whether one part of the service works."""

    name: Literal["database", "store", "broker"]
    ok: bool
    detail: str = Field(description="What was found.")


class Jail(Resource):
    """The kernel's walls around the engines, which read what strangers upload."""

    mode: Literal["auto", "required", "off"] = Field(description="The setting MODELPRESS_JAIL of this process.")
    landlock: int = Field(description="Landlock's version, its ABI, as the kernel under this process has it; 0: none.")
    seccomp: bool = Field(description="Whether the kernel under this process takes filters of system calls.")
    bubblewrap: bool = Field(description="Whether Bubblewrap is installed beside this process, and works.")


class Readiness(Resource):
    """Whether the service can work."""

    ready: bool
    checks: tuple[Check, ...]
    jail: Jail = Field(
        description="What engines on the machine of this process get. Workers on other machines log theirs when they "
        "start, and show it in their metrics as `modelpress_worker_wall`."
    )


_JAIL = Jail(mode="auto", landlock=7, seccomp=True, bubblewrap=False)
_READY = Readiness(
    ready=True,
    checks=(
        Check(name="database", ok=True, detail="answers, tables are current"),
        Check(name="store", ok=True, detail="can be written to"),
        Check(name="broker", ok=True, detail="answers"),
    ),
    jail=_JAIL,
)
_NOT_READY = Readiness(
    ready=False,
    checks=(*_READY.checks[:2], Check(name="broker", ok=False, detail="does not answer (OperationalError)")),
    jail=_JAIL,
)


class NotCurrent(Exception):
    """The tables are not at the revision that this code expects."""


@router.get("/healthz", summary="Is the process alive?", response_model=Alive, responses=answer(200, "It is.", Alive()))
async def healthz() -> Alive:
    """Answers whenever the process does; asks nothing else."""
    return Alive()


@router.get(
    "/readyz",
    summary="Can the service work?",
    response_model=Readiness,
    responses=answer(200, "It can.", _READY) | answer(503, "A part of it does not work.", _NOT_READY, model=Readiness),
)
def readyz(response: Response, services: ServicesParam) -> Readiness:
    """Asks the database, the store and the broker, each for real; and the kernel for its walls."""
    checks = _check_all(services)
    ready = all(check.ok for check in checks)
    response.headers["Cache-Control"] = "no-store"
    if not ready:
        response.status_code = 503
    mode = services.settings.jail
    jail = Jail(mode=mode, **asdict(active_walls(mode)))
    return Readiness(ready=ready, checks=checks, jail=jail)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
def metrics(services: ServicesParam) -> Response:
    """Requests, uploaded bytes, jobs by state, and how long the oldest job in the queue has waited."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})


def _check_all(services: Services) -> tuple[Check, ...]:
    # Each in a thread of its own: one that hangs delays the answer by its time limit, not the others' words.
    parts: dict[Literal["database", "store", "broker"], tuple[Callable[[], None], str]] = {
        "database": (lambda: _check_database(services.database), "answers, tables are current"),
        "store": (services.store.check, "can be written to"),
        "broker": (services.wakeup.ping, "answers"),
    }
    pool = ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="readyz")
    try:
        asked = {name: (pool.submit(look), good) for name, (look, good) in parts.items()}
        return tuple(_verdict(name, future, good) for name, (future, good) in asked.items())
    finally:
        pool.shutdown(wait=False)


def _verdict(name: Literal["database", "store", "broker"], future: Future[None], good: str) -> Check:
    try:
        future.result(timeout=CHECK_SECONDS)
    except NotCurrent as error:
        return Check(name=name, ok=False, detail=str(error))
    except Exception as error:  # noqa: BLE001  # whatever a client library raises, the part does not work
        # The text may name hosts and users: it is for the log, not for everybody.
        log.warning("not ready", part=name, error=str(error) or type(error).__name__)
        return Check(name=name, ok=False, detail=f"does not work ({type(error).__name__}); the service's log says more")
    return Check(name=name, ok=True, detail=good)


def _check_database(database: Database) -> None:
    database.ping()
    if not database.is_compatible():
        found = database.revision() or "empty"
        raise NotCurrent(f"answers, but its tables are {found} and not those of this version; run the migration")
