"""Finished jobs whose every figure is written down, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from benchmarks.slimnets.budget import Data, Job
from benchmarks.slimnets.finished import Finished, Sample, dumped
from modelpress.spec.report import Accuracy, Latency, Report, TrainingSummary
from modelpress.spec.steps import Prune
from tests.support.reports import BASELINE, a_report


def report(top1: float, stored_bytes: int, epochs: int = 7) -> Report:
    """The original has 90% in 4,000 bytes and 2 ms; the result is twice as fast."""
    whole = a_report()
    training = TrainingSummary(
        epochs=epochs,
        steps=10,
        images_per_second=1.0,
        precision="fp32",
        channels_last=True,
        device="cpu",
        final_loss=1.0,
    )
    final = whole.final.model_copy(
        update={
            "stored_bytes": {"compact": stored_bytes, "onnx": 10 * stored_bytes},
            "accuracy": Accuracy(top1=top1, top5=0.99, loss=0.5, examples=200),
            "latencies": (Latency(runtime="onnxruntime", threads=1, batch=1, p50_ms=1.0, p90_ms=1.1),),
        }
    )
    ratios = whole.ratios.model_copy(update={"stored_bytes": 4_000 / stored_bytes, "latency": 2.0})
    machine = {"processor": "a processor", "cores": 2}
    return whole.model_copy(
        update={
            "baseline": BASELINE,
            "stages": (whole.stages[0].model_copy(update={"training": training}),),
            "final": final,
            "ratios": ratios,
            "provenance": whole.provenance.model_copy(update={"machine": machine, "seconds": 120.0}),
        }
    )


def finished(job: Job, top1: float = 0.81, stored_bytes: int = 100) -> Finished:
    """The job, done."""
    return Finished(
        name=job.name,
        data=job.data,
        seed=job.seed,
        steps=dumped(job),
        id=f"job_{job.name}",
        report=report(top1, stored_bytes),
        curve=(Sample(part=0, step=1, loss=2.0, sparsity=0.1), Sample(part=0, step=9, loss=1.0, sparsity=0.75)),
    )


def on(done: Finished, **facts: Any) -> Finished:
    """The same, on a machine of which these facts are others."""
    provenance = done.report.provenance
    provenance = provenance.model_copy(update={"machine": provenance.machine | facts})
    return done.model_copy(update={"report": done.report.model_copy(update={"provenance": provenance})})


def with_reused(done: Finished, job: str, seconds: float) -> Finished:
    """The same, its first step done by another job."""
    stages = tuple(stage.model_copy(update={"reused_from": job, "seconds": seconds}) for stage in done.report.stages)
    return done.model_copy(update={"report": done.report.model_copy(update={"stages": stages})})


def a_job(name: str = "gradual-75", data: Data = "final", seed: int = 0) -> Job:
    """One that prunes without a training."""
    return Job(name, data, seed, (Prune(sparsity=0.75),))


def fail(_: Job) -> Finished:
    """What a job comes to that is stopped."""
    raise KeyboardInterrupt
