"""One run of the engine in a work folder: started, watched, its events carried on, and cleared away.

The thread that runs this only waits and looks at memory; whatever may block on the database has a thread of its own,
so that a child is always ended in time.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.task import EVENTS_FILE, FAILURE_FILE, Compress
from worker.child import Child, engine_environment
from worker.heartbeat import Heartbeat, Verdict
from worker.limits import Limits, LimitWatch
from worker.reach import walls_for
from worker.relay import EngineEvent, Relay
from worker.results import UnreadableResult, read_text
from worker.workplace import Interrupted, Stopped, Workplace

TICK_SECONDS = 0.2

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Exited:
    """The engine came to its own end, with this exit code."""

    code: int


Ending = Exited | Failure


def run_engine(
    workplace: Workplace,
    folder: Path,
    heartbeat: Heartbeat,
    *,
    seconds: float,
    task: Compress | None = None,
    append: Callable[[Sequence[EngineEvent]], bool] | None = None,
) -> Ending:
    """Run the engine on `folder` to its end; a `Failure` is a limit that it broke. `task` is None for an inspection.

    When this returns or raises no process of it is left and, unless the work is lost, every event is written.
    Raises Interrupted when the work must not go on, OSError when no process can be started.
    """
    settings = workplace.settings
    watch = LimitWatch(
        Limits(settings.memory_limit_bytes, settings.disk_limit_bytes, settings.disk_reserve_bytes, seconds), folder
    )
    child = Child(
        settings.engine_command,
        folder,
        environment=engine_environment(
            folder, threads=settings.threads, cuda_visible_devices=settings.cuda_visible_devices
        ),
        file_bytes=settings.disk_limit_bytes,
        # More than it can use until `watch` ends it. The kernel's own clock, for when nobody watches.
        cpu_seconds=math.ceil(seconds * (os.cpu_count() or 1)),
        walls=walls_for(folder, task, settings),
        log_bytes=settings.log_limit_bytes,
    )
    log.info("engine_started", pid=child.pid)
    relay = Relay(folder / EVENTS_FILE, append) if append is not None else None
    if relay is not None:
        relay.start()
    try:
        ending = _wait(workplace, child, watch, heartbeat)
    finally:
        child.end()
        if relay is not None:
            relay.finish()
            while not relay.finished(TICK_SECONDS) and heartbeat.verdict() is not Verdict.LOST:
                pass
    if heartbeat.verdict() is Verdict.LOST:
        raise Interrupted(Stopped.LOST)
    log.info("engine_ended", ending=repr(ending))
    return ending


def _wait(workplace: Workplace, child: Child, watch: LimitWatch, heartbeat: Heartbeat) -> Ending:
    while (code := child.wait(TICK_SECONDS)) is None:
        workplace.require_going_on(heartbeat)
        if (failure := watch.breach(child.tree)) is not None:
            return failure
    return Exited(code)


def read_failure(folder: Path, code: int) -> Failure:
    """Why an engine that exited with `code` failed: its own word for it, or what its end looks like."""
    try:
        return Failure.model_validate_json(read_text(folder / FAILURE_FILE))
    except UnreadableResult:
        pass
    except ValueError as error:
        log.error("failure_unreadable", error=str(error))
    if code in (-9, 128 + 9):
        return Failure(
            kind=FailureKind.OUT_OF_MEMORY,
            message="the engine was killed from outside, most likely because the machine's memory ran out; use a "
            "smaller batch size, model or data set, or a worker with more memory",
        )
    if code in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return Failure(
            kind=FailureKind.TIMEOUT,
            message="it used more processor time than this service allows; use fewer epochs or a smaller data set, or "
            "ask the operator to raise the limit",
        )
    return Failure(
        kind=FailureKind.INTERNAL,
        message=f"the engine ended with code {code} and gave no reason; its log has its last words. Retry it, and "
        "report it when it happens again",
    )
