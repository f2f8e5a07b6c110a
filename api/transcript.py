"""Events as lines of text, for a reader without a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modelpress.spec.event import Progress, StageDone, StateChanged, Warned
from modelpress.spec.report import Measurement
from modelpress.spec.resources import JobEvent


def transcript(events: Iterable[JobEvent]) -> Iterator[str]:
    """One line for each event, with its time (UTC)."""
    for event in events:
        yield f"{event.created_at:%Y-%m-%d %H:%M:%S} attempt {event.attempt}: {_words(event.event)}\n"


def _words(event: Progress | StageDone | Warned | StateChanged) -> str:
    match event:
        case Progress():
            return _progress(event)
        case StageDone():
            step = "" if event.step is None else f" {event.step} ({event.step_kind})"
            return f"{event.stage}{step} done: {_measurement(event.measurement)}"
        case Warned():
            return f"warning: {event.message}"
        case StateChanged():
            return event.state + (f" ({event.reason})" if event.reason else "")


def _progress(event: Progress) -> str:
    parts = [f"{event.fraction:.0%} {event.stage}"]
    if event.step is not None:
        parts.append(f"step {event.step + 1} of {event.steps} ({event.step_kind})")
    if event.epoch is not None:
        parts.append(f"epoch {event.epoch} of {event.epochs}")
    parts += [f"{name} {value:.4g}" for name, value in sorted(event.metrics.items())]
    if event.eta_seconds is not None:
        parts.append(f"{event.eta_seconds:.0f} s left")
    return ", ".join(parts)


def _measurement(measured: Measurement) -> str:
    parts = [
        f"{measured.parameters:,} parameters",
        f"{measured.nonzero_parameters:,} not zero",
        f"{measured.macs:,} MACs",
    ]
    if measured.accuracy is not None:
        parts.append(f"top-1 accuracy {measured.accuracy.top1:.4f}")
    return ", ".join(parts)
