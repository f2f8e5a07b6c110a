"""The plots: a pruning over its steps, and accuracy against bytes and against time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.slimnets import paper
from benchmarks.slimnets.outcome import Outcome
from benchmarks.slimnets.svg import Plot, Series, svg
from modelpress.spec.report import Measurement

# Lines beside each other in one plot: more cannot be told apart.
DRAWN_SPARSITIES = ("75", "87.5", "95", "98")
KINDS = {
    1: "weight pruning",
    2: "low rank",
    3: "students",
    5: "distilled, pruned",
    6: "our recipes",
    7: "ours, two cores",
}
"""What the tables' points are called."""


def plots(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """SVG texts by name; of what has finished alone."""
    made = {
        "sparsity": _curves(
            outcomes,
            "Sparsity over the steps of the training",
            "zero weights, %",
            lambda one: None if one.sparsity is None else 100 * one.sparsity,
        ),
        "loss": _curves(outcomes, "Loss over the steps of the training", "training loss, nats", lambda one: one.loss),
        "bytes": _against_bytes(outcomes),
        "latency": _against_latency(outcomes),
    }
    return {name: svg(plot) for name, plot in made.items() if any(series.points for series in plot.series)}


def _curves(outcomes: Mapping[str, Outcome], title: str, unit: str, value: Callable[..., float | None]) -> Plot:
    series = []
    for place, sparsity in enumerate(DRAWN_SPARSITIES):
        for kind, words in (("gradual", "gradually"), ("one-shot", "at once")):
            outcome = outcomes.get(f"{kind}-{sparsity}")
            if outcome is None:
                continue
            points = [
                (float(sample.step), seen)
                for sample in outcome.finished[0].curve
                if (seen := value(sample)) is not None
            ]
            if points:
                series.append(Series(f"{sparsity}%, {words}", points, dashed=kind == "one-shot", colour=place))
    return Plot(title, "step of the training", unit, series)


def _against_bytes(outcomes: Mapping[str, Outcome]) -> Plot:
    theirs = [
        (1e6 * paper.ORIGINAL_MEGABYTES / published.ratio, 100 * published.top1)
        for published in (paper.LOW_RANK, paper.DISTILLED["nin_cifar"], paper.DISTILLED_THEN_PRUNED[0.75])
        if published.ratio is not None
    ]
    title, unit = "Accuracy against the bytes of the file", "bytes of the smallest file"
    series = _by_table(outcomes, _result_bytes, lambda original: original.smallest_bytes)
    if series:
        series.append(Series("SlimNets (lossless images)", theirs, joined=False, dashed=True, colour=6))
    return Plot(title, unit, "top-1, %", series, log_x=True)


def _against_latency(outcomes: Mapping[str, Outcome]) -> Plot:
    title, unit = "Accuracy against latency", "ms for one image, one thread, ONNX Runtime, fp32"
    return Plot(title, unit, "top-1, %", _by_table(outcomes, _result_ms, _original_ms), log_x=True)


def _by_table(
    outcomes: Mapping[str, Outcome],
    result: Callable[[Outcome], float | None],
    original: Callable[[Measurement], float | None],
) -> list[Series]:
    series = []
    for place, (table, name) in enumerate(KINDS.items()):
        inside = [outcome for outcome in outcomes.values() if outcome.run.table == table]
        points = [(x, 100 * outcome.top1.mean) for outcome in inside if (x := result(outcome)) is not None]
        if points:
            series.append(Series(name, points, joined=False, colour=place))
    if series:
        first = next(outcome for outcome in outcomes.values() if outcome.run.table in KINDS)
        x = original(first.reports[0].baseline)
        if x is not None:
            series.append(Series("original", [(x, 100 * first.original_top1)], joined=False, colour=7))
    return series


def _result_bytes(outcome: Outcome) -> float | None:
    return outcome.stored_bytes.mean


def _result_ms(outcome: Outcome) -> float | None:
    return None if outcome.latency_ms is None else outcome.latency_ms.mean


def _original_ms(original: Measurement) -> float | None:
    timed = original.latency_in()
    return None if timed is None else timed.p50_ms
