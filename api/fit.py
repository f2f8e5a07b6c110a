"""Does a job fit a worker? By what its owner says that it needs and, where that says nothing, by an estimate."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from api.refusals import UnfitSpec
from db.queries.rates import with_durations
from db.queries.workers import known_capacities
from modelpress.spec.cost import JobEstimate, StepEstimate
from modelpress.spec.job import JobSpec
from modelpress.spec.needs import Capacity, Least, Needs, gib
from modelpress.spec.resources import FieldError


def require_fitting(session: Session, spec: JobSpec, estimate: JobEstimate | None) -> JobEstimate | None:
    """The estimate of a job with how long it will run; None where there is none.

    Raises UnfitSpec for what no worker has that was there of late; where none was, the job waits for the first one.
    """
    known = known_capacities(session)
    _require_worker(known, spec.needs)
    if estimate is None:
        return None
    _require_memory(known, spec.needs, estimate)
    return with_durations(session, estimate, spec.model, spec.needs, known)


def _require_worker(known: Sequence[Capacity], needs: Needs) -> None:
    lacking = [capacity.lacks(needs) for capacity in known]
    if not lacking or not all(lacking):
        return
    there = _in_words(known)
    # What every worker lacks by itself; else only the combination is too much.
    alone = [field for field in lacking[0] if all(field in lacks for lacks in lacking)]
    errors = [
        FieldError(
            where=f"needs.{field}",
            message=f"no worker has {lacking[0][field]}; those of this service have: {there}. Ask for less, or ask the "
            "operator for such a worker",
        )
        for field in alone
    ]
    together = FieldError(
        where="needs",
        message=f"no worker has all of this at once; those of this service have: {there}. Ask for less, or ask the "
        "operator for such a worker",
    )
    raise UnfitSpec(errors or [together])


def _require_memory(known: Sequence[Capacity], needs: Needs, estimate: JobEstimate) -> None:
    least = estimate.least(needs)
    if not known or any(not capacity.lacks(needs, least) for capacity in known):
        return
    able = [capacity for capacity in known if not capacity.lacks(needs)]
    # The one that comes nearest is what the advice is for.
    nearest = max(able, key=lambda capacity: _share_that_fits(capacity, least))
    there = f"The workers of this service have: {_in_words(able)}"
    if nearest.device == "cuda" and least.cuda_memory_bytes > nearest.memory_bytes:
        message = (
            f"the job needs at least {gib(least.cuda_memory_bytes)} of main memory, beside that of the GPU, by its "
            f"estimate. {there}. Use a smaller model or data set, or set `needs.memory_bytes`, which is then taken for "
            "true in place of the estimate"
        )
        raise UnfitSpec([FieldError(where="needs.memory_bytes", message=message)])
    too_large = [step for step in estimate.steps if _is_too_large(step, estimate, nearest)]
    field = "gpu_memory_bytes" if nearest.device == "cuda" else "memory_bytes"
    override = f"set `needs.{field}`{' (and `needs.device`)' if field == 'gpu_memory_bytes' else ''}, which is then "
    override += "taken for true in place of the estimate"
    errors = [
        FieldError(
            where=f"steps.{step.step}.training.batch_size",
            message=f"step {step.step} ({step.kind}) needs at least {gib(_need(step, estimate, nearest))} of "
            f"{_kind(nearest)} by its estimate, with batches of {step.batch_size} images. {there}. "
            f"{_lower(step, estimate, nearest)}, or {override}",
        )
        for step in too_large
        if step.batch_size is not None
    ]
    whole = FieldError(
        where=f"needs.{field}",
        message=f"the job needs at least {gib(_wanted(nearest, least))} of {_kind(nearest)} by its estimate, whatever "
        f"its batches. {there}. Use a smaller model or data set, or {override}",
    )
    raise UnfitSpec(errors or [whole])


def _share_that_fits(capacity: Capacity, least: Least) -> float:
    share = _room(capacity) / _wanted(capacity, least)
    if capacity.device == "cuda":
        share = min(share, capacity.memory_bytes / max(1, least.cuda_memory_bytes))
    return share


def _is_too_large(step: StepEstimate, estimate: JobEstimate, capacity: Capacity) -> bool:
    return step.batch_size is not None and _need(step, estimate, capacity) > _room(capacity)


def _need(step: StepEstimate, estimate: JobEstimate, capacity: Capacity) -> int:
    if capacity.device == "cuda":
        return step.halved_bytes
    return estimate.process_bytes + step.device_bytes


def _lower(step: StepEstimate, estimate: JobEstimate, capacity: Capacity) -> str:
    fitting = estimate.fitting_batch(step.step, _room(capacity), capacity.device)
    return f"Lower it to {fitting}" if fitting else "Not even one image fits: use a smaller model"


def _wanted(capacity: Capacity, least: Least) -> int:
    return max(1, least.gpu_memory_bytes if capacity.device == "cuda" else least.cpu_memory_bytes)


def _room(capacity: Capacity) -> int:
    return capacity.all_gpu_memory_bytes if capacity.device == "cuda" else capacity.memory_bytes


def _kind(capacity: Capacity) -> str:
    return "GPU memory" if capacity.device == "cuda" else "memory"


def _in_words(known: Sequence[Capacity]) -> str:
    return "; ".join(capacity.in_words() for capacity in known)
