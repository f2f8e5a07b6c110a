"""What is said of a job whose engine took too much memory, or too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelpress.spec.cost import JobEstimate, StepEstimate
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.job import Recipe
from modelpress.spec.needs import Device
from worker.advice import advised
from worker.limits import Limits, LimitWatch

MIB = 1 << 20
FAILURE = Failure(kind=FailureKind.OUT_OF_MEMORY, message="it needed more than it may")
RECIPE = Recipe.model_validate(
    {"steps": [{"kind": "prune", "sparsity": 0.5}, {"kind": "finetune", "training": {"batch_size": 128}}]}
)
ESTIMATE = JobEstimate(
    cpu_memory_bytes=500 * MIB,
    process_bytes=100 * MIB,
    cuda_memory_bytes=100 * MIB,
    gpu_memory_bytes=0,
    step=1,
    steps=(
        StepEstimate(step=0, kind="prune", batch_size=None, fixed_bytes=0, image_bytes=0, macs=0),
        StepEstimate(step=1, kind="finetune", batch_size=128, fixed_bytes=20 * MIB, image_bytes=3 * MIB, macs=0),
    ),
    macs=0,
)


@pytest.mark.parametrize(
    ("step", "estimate", "limit", "device", "says"),
    [
        (1, ESTIMATE, 210, "cpu", "Step 1 (finetune) was at work; lower its `training.batch_size` from 128 to 30"),
        (1, ESTIMATE, 900, "cpu", "from 128 to 64"),
        (1, None, 210, "cpu", "from 128 to 64"),
        (1, ESTIMATE, 110, "cpu", "not even a batch of one image fits"),
        (0, ESTIMATE, 210, "cpu", "it needed more than it may. Step 0 (prune) was at work"),
        (1, ESTIMATE, 210, "cuda", "it needed more than it may. Step 1 (finetune) was at work"),
        (None, ESTIMATE, 210, "cpu", "it needed more than it may"),
    ],
)
def test_the_step_and_the_batch_are_named(
    step: int | None, estimate: JobEstimate | None, limit: int, device: Device, says: str
) -> None:
    found = advised(FAILURE, RECIPE, step, estimate, limit * MIB, device)
    assert says in found.message
    assert found.step == step


def test_other_failures_stay_as_they_are() -> None:
    other = Failure(kind=FailureKind.TIMEOUT, message="too long")
    assert advised(other, RECIPE, 1, ESTIMATE, MIB, "cpu") is other


@pytest.mark.parametrize(("spent", "kind"), [(0.0, None), (99.0, None), (100.0, FailureKind.TIMEOUT)])
def test_earlier_attempts_count(tmp_path: Path, spent: float, kind: FailureKind | None) -> None:
    more: dict[str, Any] = {"memory_bytes": 1 << 40, "disk_bytes": 1 << 40, "disk_reserve_bytes": 0}
    watch = LimitWatch(Limits(**more, seconds=100.0, spent_seconds=spent), tmp_path)
    breach = watch.breach(list)
    assert (breach and breach.kind) == kind
