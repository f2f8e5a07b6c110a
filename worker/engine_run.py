"""One run of the engine in a work folder: started, watched, its events carried on, and cleared away.

The thread that runs this only waits and looks at memory; whatever may block on the database has a thread of its own,
so that a child is always ended in time.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.task import CHECKPOINT_WANTED_FILE, EVENTS_FILE, FAILURE_FILE, Compress
from worker.checkpoint_keeper import CheckpointKeeper
from worker.child import Child, engine_environment
from worker.heartbeat import Heartbeat, Verdict
from worker.limits import Limits, LimitWatch
from worker.reach import walls_for
from worker.relay import Relay, Told
from worker.results import UnreadableResult, read_text
from worker.workplace import TICK_SECONDS, Interrupted, Stopped, Workplace

# How long a training may take for a last checkpoint when the worker shall end: a batch, and a file.
CHECKPOINT_PATIENCE_SECONDS = 5.0

# Of the lease: after so long without a sign of life from here the launcher kills the engine.
SILENCE_SHARE = 0.5

# What is wrong with a file is said with its names, of any length, and to everyone who lists jobs or uploads.
_LONGEST_REASON = 4_000

# As the launcher gives it (see service/launch.py), and of the launcher itself.
_KILLED = (128 + signal.SIGKILL, -signal.SIGKILL)

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
    limits: Limits,
    task: Compress | None = None,
    append: Callable[[Sequence[Told]], bool] | None = None,
    checkpoints: CheckpointKeeper | None = None,
) -> Ending:
    """Run the engine on `folder` to its end; a `Failure` is a limit that it broke. `task` is None for an inspection.

    When this returns or raises no process of it is left and, unless the work is lost, every event is written; and the
    last checkpoint is kept, where another attempt will go on or a job may begin alike. A job has both `append` and
    `checkpoints`.
    Raises Interrupted when the work must not go on, OSError when no process can be started.
    """
    settings = workplace.settings
    watch = LimitWatch(limits, folder)
    child = Child(
        workplace.engine,
        folder,
        environment=engine_environment(
            folder, threads=settings.threads, cuda_visible_devices=settings.cuda_visible_devices
        ),
        file_bytes=settings.disk_limit_bytes,
        # More than it can use until `watch` ends it. The kernel's own clock, for when nobody watches.
        cpu_seconds=math.ceil(max(1.0, limits.seconds_left) * (os.cpu_count() or 1)),
        walls=walls_for(folder, task, settings),
        log_bytes=settings.log_limit_bytes,
        # A beat can be a third of the lease old when this process freezes: so long before its end.
        silence_seconds=settings.lease_seconds * SILENCE_SHARE,
    )
    log.info("engine_started", pid=child.pid)
    relay = None
    if append is not None and checkpoints is not None:
        relay = Relay(folder / EVENTS_FILE, append, checkpoints.note)
        relay.start()
        checkpoints.start()
    is_of_use = False  # what it has kept: to another attempt, or to jobs that begin alike
    try:
        ending = _wait(workplace, child, watch, heartbeat)
        is_of_use = isinstance(ending, Exited)
    except Interrupted as interrupted:
        if interrupted.reason is Stopped.SHUTDOWN:
            is_of_use = True
            if relay is not None and checkpoints is not None and relay.is_training:
                _await_checkpoint(folder, child, checkpoints, heartbeat)
        raise
    finally:
        child.end()
        if relay is not None and checkpoints is not None:
            relay.finish()
            while not relay.finished(TICK_SECONDS) and heartbeat.verdict() is not Verdict.LOST:
                pass
            if is_of_use:
                _finish(checkpoints, workplace, heartbeat)
            else:
                checkpoints.abandon()  # and not waited for: what it is at will be refused
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


def _finish(checkpoints: CheckpointKeeper, workplace: Workplace, heartbeat: Heartbeat) -> None:
    """Wait for what is on its way into the store; when this worker shall end, not for longer than it has for that."""
    checkpoints.finish()
    give_up = math.inf
    while not checkpoints.finished(TICK_SECONDS):
        if workplace.stop.is_set():
            give_up = min(give_up, time.monotonic() + CHECKPOINT_PATIENCE_SECONDS)
        # Nobody goes on after all, or the job is to be given back before this process is killed over a slow store.
        if heartbeat.verdict() is not Verdict.HELD or time.monotonic() > give_up:
            checkpoints.abandon()
            return


def _await_checkpoint(folder: Path, child: Child, checkpoints: CheckpointKeeper, heartbeat: Heartbeat) -> None:
    """Ask the engine for a last checkpoint, and wait for a moment."""
    kept = checkpoints.kept("training")
    give_up = time.monotonic() + CHECKPOINT_PATIENCE_SECONDS
    # The engine may write in the folder too: whatever it has laid there is not followed.
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    with suppress(OSError):
        os.close(os.open(folder / CHECKPOINT_WANTED_FILE, flags, 0o600))
    while checkpoints.kept("training") == kept and heartbeat.verdict() is Verdict.HELD:
        if time.monotonic() > give_up or child.wait(TICK_SECONDS) is not None:
            log.warning("no_last_checkpoint")
            return


def was_killed(folder: Path, code: int) -> bool:
    """Whether an engine that exited with `code` was killed from outside: it left no word of its own."""
    return code in _KILLED and not (folder / FAILURE_FILE).exists()


def read_failure(folder: Path, code: int) -> Failure:
    """Why an engine that exited with `code` failed: its own word for it, or what its end looks like."""
    try:
        return _shortened(Failure.model_validate_json(read_text(folder / FAILURE_FILE)))
    except UnreadableResult:
        pass
    except ValueError as error:
        log.error("failure_unreadable", error=str(error))
    if code in _KILLED:
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


def _shortened(failure: Failure) -> Failure:
    if len(failure.message) <= _LONGEST_REASON:
        return failure
    # What to do stands at the end.
    half = _LONGEST_REASON // 2
    return failure.model_copy(update={"message": f"{failure.message[:half]} ... {failure.message[-half:]}"})
