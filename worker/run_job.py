"""One attempt of a job, from the claim to its last write.

The files go into the store first, where nobody sees them; then one transaction makes them, the report and the final
state visible together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from db.errors import NotFound
from db.queries import claims
from db.queries.claims import ClaimedJob
from db.queries.step_results import FirstSteps, keep_step_result
from modelpress.spec.event import Checkpointed, Progress
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.job import Recipe
from modelpress.spec.report import Report
from modelpress.spec.state import JobState
from modelpress.spec.task import TASK_FILE, Compress
from storage.store import StorageError, Writer
from worker import metrics
from worker.advice import advised
from worker.checkpoint_keeper import CheckpointKeeper, clear_checkpoints
from worker.engine_run import Exited, read_failure, run_engine, was_killed
from worker.failures import failure_of
from worker.heartbeat import Heartbeat
from worker.inputs import lay_checkpoint, lay_dataset, lay_first_steps, lay_model, lay_students
from worker.limits import Limits
from worker.relay import Told
from worker.results import StoredFile, UnreadableResult, read_report, store_artifacts, store_log, store_model_card
from worker.step_results import clear_step_results
from worker.store_call import StoreCall
from worker.work_folder import work_folder
from worker.workplace import Interrupted, Stopped, Workplace

Result = TypeVar("Result")

SHUTDOWN_REASON = "the worker was stopped"
KILLED_REASON = "the engine was killed from outside"

# How long the log of a cancelled job may take into the store, seconds.
LOG_PATIENCE_SECONDS = 1.0

log = structlog.stdlib.get_logger(__name__)


def take_job(workplace: Workplace) -> bool:
    """Claim the next job and carry it out. False when none waits."""
    settings = workplace.settings
    with workplace.database.session() as session:
        job = claims.claim_job(session, workplace.worker, settings.lease_seconds, workplace.capacity)
    if job is None:
        return False
    metrics.CLAIMS.labels("job").inc()
    started = time.monotonic()
    with bound_contextvars(job_id=job.id, attempt=job.attempt):
        log.info("job_claimed")
        outcome = _JobRun(workplace, job).run()
        log.info("job_left", outcome=outcome)
    metrics.FINISHED.labels("job", outcome).inc()
    metrics.SECONDS.labels("job").observe(time.monotonic() - started)
    return True


class _Refused(Exception):
    """The database did not take the end of the job: it is being cancelled, or no longer ours."""


class _JobRun:
    """What the steps of one attempt share."""

    def __init__(self, workplace: Workplace, job: ClaimedJob) -> None:
        self._workplace = workplace
        self._job = job
        self._heartbeat = Heartbeat(self._beat, workplace.settings.lease_seconds)
        self._folder = workplace.settings.work_folder / f"{job.id}-{job.attempt}"
        self._log: list[StoredFile] = []
        self._step: int | None = None  # by the newest progress
        self._told = 0  # number of the last event that was written for it
        self._is_unsure = False

    def run(self) -> str:
        """Carry the job out and write its end; gives the outcome."""
        with self._heartbeat:
            try:
                return self._attempt()
            except Interrupted as interrupted:
                log.warning("job_interrupted", reason=interrupted.reason.value)
                return interrupted.reason.value

    def _attempt(self) -> str:
        try:
            with work_folder(self._folder.parent, self._folder.name):
                return self._work()
        except Interrupted as interrupted:
            if interrupted.reason is Stopped.CANCELLED:
                return self._end("cancelled", lambda session: claims.cancelled(session, *self._key))
            if interrupted.reason is Stopped.SHUTDOWN:
                self._workplace.write(self._heartbeat, lambda s: claims.release(s, *self._key, SHUTDOWN_REASON))
                return "released"
            raise
        except Exception as error:
            log.exception("job_broke")
            return self._fail(failure_of(error))

    def _work(self) -> str:
        twin = self._job.twin
        if twin is not None and self._reach_store(lambda: all(map(self._workplace.store.exists, twin.files))):
            with suppress(NotFound):  # deleted since: then this one is run
                outcome = self._end("succeeded", lambda s: claims.succeed_as(s, *self._key, twin.job_id))
                if outcome == "succeeded":
                    log.info("job_reused", twin=twin.job_id)
                return outcome
        ending = self._run_engine(self._lay_task())
        if isinstance(ending, Failure):
            return self._fail(self._advised(ending))
        if ending != Exited(0):
            return self._failed(ending.code)
        try:
            report, files = self._results()
        except UnreadableResult as error:
            return self._fail(
                Failure(
                    kind=FailureKind.VERIFICATION_FAILED,
                    message=f"what the engine left cannot be trusted: {error}. Retry the job, and report it when it "
                    "happens again",
                )
            )
        return self._end("succeeded", lambda s: claims.succeed(s, *self._key, report), files)

    def _run_engine(self, task: Compress) -> Exited | Failure:
        store = self._workplace.store
        try:
            ending = run_engine(
                self._workplace,
                self._folder,
                self._heartbeat,
                limits=self._limits(),
                task=task,
                append=self._append,
                checkpoints=CheckpointKeeper(
                    self._folder, store, self._keep_checkpoint, limit_bytes=self._workplace.settings.disk_limit_bytes
                ),
            )
        except Interrupted as interrupted:
            if interrupted.reason is Stopped.CANCELLED:
                # Its end does not wait for a slow store.
                call = StoreCall(lambda: store_log(self._folder, store))
                if call.ended(LOG_PATIENCE_SECONDS):
                    with suppress(StorageError, OSError):
                        self._log = call.result()
            raise
        self._log = self._reach_store(lambda: store_log(self._folder, store))
        return ending

    def _limits(self) -> Limits:
        settings, own = self._workplace.settings, self._job.spec.run_limit_seconds
        longest = settings.job_timeout_seconds if own is None else min(own, settings.job_timeout_seconds)
        return Limits.of(settings, longest, spent_seconds=self._job.run_seconds)

    def _advised(self, failure: Failure) -> Failure:
        job, place = self._job, self._workplace
        device = "cpu" if place.capacity is None else place.capacity.device
        return advised(failure, job.spec, self._step, job.estimate, place.settings.memory_limit_bytes, device)

    def _failed(self, code: int) -> str:
        failure = read_failure(self._folder, code)
        if was_killed(self._folder, code):
            failure = self._advised(failure)
            most = self._workplace.settings.max_attempts
            return self._end("lost", lambda s: claims.lose(s, *self._key, failure, most, KILLED_REASON))
        if failure.kind is not FailureKind.GOAL_NOT_MET:
            return self._fail(failure)
        # The job came to its end, so its files and figures are kept.
        try:
            report, files = self._results()
        except UnreadableResult as error:
            log.warning("results_unreadable", error=str(error))
            return self._fail(failure)
        return self._end("failed", lambda s: claims.fail(s, *self._key, failure, report), files)

    def _lay_task(self) -> Compress:
        job, store = self._job, self._workplace.store
        model = self._reach_store(lambda: lay_model(store, job.model, self._folder))
        students = self._reach_store(lambda: lay_students(store, job.students, self._folder))
        dataset = None
        if (sha256 := job.dataset) is not None:
            dataset = self._reach_store(lambda: lay_dataset(store, sha256, self._folder))
        self._reach_store(lambda: lay_checkpoint(store, job.checkpoint, self._folder))
        reused_from = None
        if (found := job.first_steps) is not None and self._reach_store(
            lambda: lay_first_steps(store, found.sha256, self._folder)
        ):
            reused_from = found.job_id
        task = Compress(
            model=model,
            dataset=dataset,
            students=students,
            recipe=Recipe.model_validate(job.spec.model_dump(include=set(Recipe.model_fields))),
            device=self._workplace.settings.device,
            threads=self._workplace.settings.threads,
            processes=self._workplace.settings.processes,
            checkpoint_seconds=self._workplace.settings.checkpoint_seconds,
            latency_seconds=self._workplace.settings.latency_seconds,
            reused_from=reused_from,
        )
        (self._folder / TASK_FILE).write_text(task.model_dump_json())
        return task

    def _results(self) -> tuple[Report, list[StoredFile]]:
        report = read_report(self._folder)
        store = self._workplace.store
        files = self._reach_store(lambda: store_artifacts(self._folder, report, store))
        return report, [*files, *self._reach_store(lambda: store_model_card(self._folder, store))]

    def _reach_store(self, action: Callable[[], Result]) -> Result:
        return self._workplace.reach_store(self._heartbeat, action)

    @property
    def _key(self) -> tuple[str, int]:
        return self._job.id, self._job.attempt

    def _beat(self) -> JobState | None:
        with self._workplace.database.session() as session:
            return claims.heartbeat(session, *self._key, self._workplace.settings.lease_seconds)

    def _append(self, events: Sequence[Told]) -> bool:
        for event in events:
            if isinstance(event, Progress):
                self._step = event.step
        with self._workplace.database.session() as session:
            # Of the try before nobody knows whether it was committed, if the database went away in the midst of it.
            written = claims.last_told(session, *self._key, self._told) if self._is_unsure else None
            self._is_unsure = True
            if written is None:
                written = claims.append_events(session, *self._key, events)
        self._is_unsure = False
        if written is None:
            return False
        self._told = written
        return True

    def _keep_checkpoint(self, told: Checkpointed, writer: Writer) -> bool:
        is_published = False
        limit = self._workplace.settings.step_results_limit_bytes
        # Where the file of the next step has taken its place meanwhile, it is that step's.
        is_result = 0 < told.steps < len(self._job.fingerprints) and told.sha256 == writer.sha256
        is_result = is_result and writer.size <= limit

        def transaction(session: Session) -> bool:
            nonlocal is_published
            is_ours = claims.keep_checkpoint(session, *self._key, told.part, sha256=writer.sha256, size=writer.size)
            if is_ours and is_result:
                self._keep_result(session, told.steps, writer)
            if is_ours and not is_published:  # else it is the second try of a transaction whose end nobody knows
                writer.commit()
                is_published = True
            return is_ours

        is_ours = self._workplace.write(self._heartbeat, transaction)
        if is_ours:
            clear_checkpoints(self._workplace.database, self._workplace.store)
            if is_result:
                clear_step_results(self._workplace.database, self._workplace.store, limit)
        return is_ours

    def _keep_result(self, session: Session, steps: int, writer: Writer) -> None:
        job = self._job
        keep_step_result(
            session,
            job.team_id,
            FirstSteps(job.id, steps, writer.sha256),
            job.fingerprints[steps],
            size=writer.size,
            replace=not job.spec.reuse,
        )

    def _fail(self, failure: Failure) -> str:
        return self._end("failed", lambda session: claims.fail(session, *self._key, failure))

    def _end(self, outcome: str, end: Callable[[Session], bool], files: Sequence[StoredFile] = ()) -> str:
        """Make the files (and the log) and the final state visible in one transaction; gives the outcome."""

        def transaction(session: Session) -> None:
            for file in (*files, *self._log):
                if not self._add_artifact(session, file):
                    raise _Refused
            if not end(session):
                raise _Refused

        try:
            self._workplace.write(self._heartbeat, transaction)
        except _Refused:
            # Cancelled in the last moment, or no longer ours; nothing of the transaction stays.
            is_cancelled = self._workplace.write(self._heartbeat, lambda s: claims.cancelled(s, *self._key))
            return "cancelled" if is_cancelled else "lost"
        if outcome != "cancelled":  # that does not wait for the store
            self._keep_stored((*files, *self._log))
        return outcome

    def _add_artifact(self, session: Session, file: StoredFile) -> bool:
        return claims.add_artifact(
            session,
            *self._key,
            kind=file.kind,
            filename=file.path.name,
            size=file.stored.size,
            sha256=file.stored.sha256,
            content_type=file.content_type,
        )

    def _keep_stored(self, files: Sequence[StoredFile]) -> None:
        """Put files again whose very bytes somebody deleted between our putting them and our saying so."""
        store = self._workplace.store
        for file in files:
            try:
                if not store.exists(file.stored.sha256):
                    store.put_file(file.path)
            except (StorageError, OSError) as error:
                log.error("artifact_unsure", file=file.path.name, error=str(error))
