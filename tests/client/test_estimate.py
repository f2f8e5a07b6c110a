"""An estimate in words."""

from __future__ import annotations

from modelpress.client.estimate import describe_estimate
from modelpress.spec.cost import Duration, JobEstimate

GIB = 1 << 30


def test_it_says_memory_step_and_time() -> None:
    estimate = JobEstimate(
        cpu_memory_bytes=3 * GIB,
        process_bytes=GIB,
        cuda_memory_bytes=GIB,
        gpu_memory_bytes=GIB // 2,
        step=1,
        steps=(),
        macs=1,
        durations=(
            Duration(device="cpu", seconds=3725.4, rough=True),
            Duration(device="cuda", seconds=65, rough=False),
        ),
    )
    assert describe_estimate(estimate) == (
        "needs at least 3.0 GiB of memory on a processor, or 512 MiB of GPU memory (most in step 1); "
        "about 1:02:05 on a processor, a rough guess; about 1:05 on a GPU"
    )
    untrained = estimate.model_copy(update={"step": None, "durations": ()})
    assert describe_estimate(untrained).endswith("512 MiB of GPU memory")
