"""One attempt to say what an upload is, from the claim to its last write."""

from __future__ import annotations

import time

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from db.queries import claims
from db.queries.claims import ClaimedInspection
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.state import JobState, UploadState
from modelpress.spec.task import INSPECTION_FILE, MOST_INSPECTION_BYTES, TASK_FILE, InspectDataset, InspectModel
from worker import metrics
from worker.engine_run import Exited, read_failure, run_engine, was_killed
from worker.failures import failure_of
from worker.heartbeat import Heartbeat
from worker.inputs import lay_dataset, lay_model
from worker.limits import Limits
from worker.results import ResultTooLong, read_text
from worker.work_folder import work_folder
from worker.workplace import Interrupted, Stopped, Workplace

log = structlog.stdlib.get_logger(__name__)

# Of each kind of upload, why its inspection is too long.
_TOO_LONG = {
    "model": Failure(
        kind=FailureKind.INVALID_MODEL,
        message=f"what there is to say of the model's layers comes to more than {MOST_INSPECTION_BYTES >> 20} MiB: it "
        "has too many of them, or too long names; give them shorter names, or use a smaller network",
    ),
    "dataset": Failure(
        kind=FailureKind.INVALID_DATASET,
        message=f"the names of the classes come to more than {MOST_INSPECTION_BYTES >> 20} MiB; give them shorter "
        "names, or use fewer classes",
    ),
}


def take_inspection(workplace: Workplace) -> bool:
    """Claim the next upload and inspect it. False when none waits."""
    with workplace.database.session() as session:
        upload = claims.claim_inspection(
            session, workplace.worker, workplace.settings.lease_seconds, tuple(workplace.served)
        )
    if upload is None:
        return False
    workplace.served.pop(upload.team_id, None)
    workplace.served[upload.team_id] = None
    metrics.CLAIMS.labels("inspection").inc()
    started = time.monotonic()
    with bound_contextvars(upload_id=upload.id, attempt=upload.attempt):
        log.info("inspection_claimed")
        outcome = _InspectionRun(workplace, upload).run()
        log.info("inspection_left", outcome=outcome)
    metrics.FINISHED.labels("inspection", outcome).inc()
    metrics.SECONDS.labels("inspection").observe(time.monotonic() - started)
    return True


class _InspectionRun:
    """What the steps of one attempt share."""

    def __init__(self, workplace: Workplace, upload: ClaimedInspection) -> None:
        self._workplace = workplace
        self._upload = upload
        self._heartbeat = Heartbeat(self._beat, workplace.settings.lease_seconds)
        self._folder = workplace.settings.work_folder / f"{upload.id}-{upload.attempt}"
        self._was_killed = False  # the engine, from outside: another attempt may go well

    def run(self) -> str:
        """Inspect the upload and write what was found; gives the outcome."""
        upload = self._upload
        with self._heartbeat:
            try:
                result = self._inspect()
                return self._workplace.write(self._heartbeat, lambda session: self._end(session, result))
            except Interrupted as interrupted:
                if interrupted.reason is not Stopped.SHUTDOWN:
                    return str(interrupted.reason.value)
                with self._workplace.database.session() as session:
                    claims.release_inspection(session, upload.kind, upload.id, upload.attempt)
                return "released"

    def _end(self, session: Session, result: ModelInspection | DatasetInspection | Failure) -> str:
        """Write what was found; gives the outcome."""
        place = self._upload.kind, self._upload.id, self._upload.attempt
        if isinstance(result, Failure) and self._was_killed:
            most = self._workplace.settings.max_attempts
            is_rejected = claims.lose_inspection(session, *place, result, most) is UploadState.REJECTED
            return "rejected" if is_rejected else "lost"
        if not claims.finish_inspection(session, *place, result):
            return "lost"
        return "rejected" if isinstance(result, Failure) else "ready"

    def _inspect(self) -> ModelInspection | DatasetInspection | Failure:
        try:
            with work_folder(self._folder.parent, self._folder.name):
                self._lay_task()
                settings = self._workplace.settings
                limits = Limits.of(settings, settings.inspection_timeout_seconds)
                ending = run_engine(self._workplace, self._folder, self._heartbeat, limits=limits)
                if isinstance(ending, Failure):
                    return ending
                if ending != Exited(0):
                    self._was_killed = was_killed(self._folder, ending.code)
                    return read_failure(self._folder, ending.code)
                found = read_text(self._folder / INSPECTION_FILE, MOST_INSPECTION_BYTES)
                kind = ModelInspection if self._upload.kind == "model" else DatasetInspection
                return kind.model_validate_json(found)
        except Interrupted:
            raise
        except ResultTooLong:
            return _TOO_LONG[self._upload.kind]
        except Exception as error:
            log.exception("inspection_broke")
            return failure_of(error)

    def _lay_task(self) -> None:
        upload, workplace, task = self._upload, self._workplace, self._folder / TASK_FILE
        if (model := upload.model) is not None:
            file = workplace.reach_store(self._heartbeat, lambda: lay_model(workplace.store, model, self._folder))
            task.write_text(InspectModel(model=file).model_dump_json())
        else:
            data = workplace.reach_store(
                self._heartbeat, lambda: lay_dataset(workplace.store, upload.sha256, self._folder)
            )
            task.write_text(InspectDataset(dataset=data).model_dump_json())

    def _beat(self) -> JobState | None:
        upload = self._upload
        with self._workplace.database.session() as session:
            is_ours = claims.renew_inspection(
                session, upload.kind, upload.id, upload.attempt, self._workplace.settings.lease_seconds
            )
        return JobState.RUNNING if is_ours else None
