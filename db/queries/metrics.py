"""Figures as rows, so that they can be asked for in SQL over all jobs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Metric
from modelpress.spec.event import Progress
from modelpress.spec.report import Measurement, Report


def metrics(session: Session, job_id: str) -> list[Metric]:
    """Every figure of a job, in the order they came."""
    return list(session.scalars(select(Metric).where(Metric.job_id == job_id).order_by(Metric.id)))


def epoch_metrics(job_id: str, attempt: int, last: Progress) -> list[Metric]:
    """The figures of an epoch, taken from the last that was heard of it."""
    return [
        Metric(
            job_id=job_id, attempt=attempt, stage=_stage(last), step=last.step, epoch=last.epoch, name=name, value=value
        )
        for name, value in sorted(last.metrics.items())
        if math.isfinite(value)  # a diverged loss is told by the failure; SQL has no number for it
    ]


def report_metrics(job_id: str, attempt: int, report: Report) -> list[Metric]:
    """The figures of a report: of the original, of the network after each step, and of the final file."""
    measured: list[tuple[str, int | None, Measurement]] = [
        ("baseline", None, report.baseline),
        *((f"step {stage.index}", stage.index, stage.measurement) for stage in report.stages),
        ("final", None, report.final),
    ]
    figures = [(stage, step, *figure) for stage, step, measurement in measured for figure in _figures(measurement)]
    figures += [
        ("final", None, f"ratio.{name}", value)
        for name, value in report.ratios.model_dump().items()
        if isinstance(value, float)  # neither one that was not measured nor the name of a runtime
    ]
    return [
        Metric(job_id=job_id, attempt=attempt, stage=stage, step=step, name=name, value=float(value))
        for stage, step, name, value in figures
        if math.isfinite(value)
    ]


def _figures(measurement: Measurement) -> Iterator[tuple[str, float]]:
    yield "parameters", measurement.parameters
    yield "nonzero_parameters", measurement.nonzero_parameters
    yield "macs", measurement.macs
    for kind, size in sorted(measurement.stored_bytes.items()):
        yield f"stored_bytes.{kind}", size
    if measurement.accuracy is not None:
        yield "accuracy.top1", measurement.accuracy.top1
        yield "accuracy.top5", measurement.accuracy.top5
        yield "accuracy.loss", measurement.accuracy.loss
    for latency in measurement.latencies:
        name = f"latency.{latency.runtime}.{latency.precision}.{latency.batch}"
        yield f"{name}.p50_ms", latency.p50_ms
        yield f"{name}.p90_ms", latency.p90_ms
    if measurement.peak_memory_bytes is not None:
        yield "peak_memory_bytes", measurement.peak_memory_bytes


def _stage(progress: Progress) -> str:
    return progress.stage if progress.step is None else f"step {progress.step}"
