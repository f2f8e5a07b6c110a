"""What a job is estimated to need, in words."""

from __future__ import annotations

from modelpress.spec.cost import JobEstimate
from modelpress.spec.needs import Device, gib

_WORKERS: dict[Device, str] = {"cpu": "a processor", "cuda": "a GPU"}


def describe_estimate(estimate: JobEstimate) -> str:
    """`needs at least 1.4 GiB of memory on a processor (most in step 0), about 3:20; on a GPU 0.6 and ...`."""
    most = "" if estimate.step is None else f" (most in step {estimate.step})"
    parts = [
        f"needs at least {gib(estimate.cpu_memory_bytes)} of memory on a processor, "
        f"or {gib(estimate.gpu_memory_bytes)} of GPU memory{most}"
    ]
    for duration in estimate.durations:
        rough = ", a rough guess" if duration.rough else ""
        parts.append(f"about {_clock(duration.seconds)} on {_WORKERS[duration.device]}{rough}")
    return "; ".join(parts)


def _clock(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
