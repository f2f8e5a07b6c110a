"""The tables as Markdown, the paper's figure beside each of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.slimnets import paper
from benchmarks.slimnets.outcome import Figure, Outcome
from benchmarks.slimnets.runs import SIDE_BY_SIDE, TABLES

HEADINGS = (
    "network",
    "top-1",
    "kept",
    "smallest file",
    "smaller",
    "faster",
    "epochs",
    "SlimNets: top-1",
    "kept",
    "smaller",
)
RIGHT = "--:"


def percent(figure: Figure, digits: int = 2) -> str:
    """Mean and spread of shares: `91.20% ± 0.11`."""
    spread = "" if figure.spread is None else f" ± {100 * figure.spread:.{digits}f}"
    return f"{100 * figure.mean:.{digits}f}%{spread}"


def times(figure: Figure | None) -> str:
    """Mean and spread of ratios, three digits: `85.2x ± 1.1`."""
    if figure is None:
        return ""
    digits = max(0, 2 - len(str(int(figure.mean))) + 1)
    spread = "" if figure.spread is None else f" ± {figure.spread:.{digits}f}"
    return f"{figure.mean:.{digits}f}x{spread}"


def _bytes(figure: Figure) -> str:
    spread = "" if figure.spread is None else f" ± {figure.spread:,.0f}"
    return f"{figure.mean:,.0f}{spread}"


def row(title: str, outcome: Outcome) -> str:
    """One line of any table."""
    published = outcome.run.paper
    cells = [
        title,
        percent(outcome.top1),
        percent(outcome.retention, 1),
        _bytes(outcome.stored_bytes),
        times(outcome.ratio),
        times(outcome.speed_up),
        outcome.epochs,
        "" if published is None else f"{published.top1:.2%}",
        "" if published is None else f"{published.retention:.1%}",
        "" if published is None or published.ratio is None else f"{published.ratio:.3g}x",
    ]
    return _line(cells)


def table(number: int, outcomes: Mapping[str, Outcome]) -> str:
    """A table with its heading; empty where no run of it has finished."""
    if number == 4:
        rows = [
            (f"{method}: {outcomes[name].run.title}", outcomes[name])
            for method, name in SIDE_BY_SIDE.items()
            if name in outcomes
        ]
    else:
        rows = [(outcome.run.title, outcome) for outcome in outcomes.values() if outcome.run.table == number]
    if not rows:
        return ""
    lines = [
        f"### {number}. {TABLES[number]}",
        "",
        _line(HEADINGS),
        _line(["---", *[RIGHT] * (len(HEADINGS) - 1)]),
        _line(["original: VGG-19", *_original(rows[0][1])]),
        *(row(title, outcome) for title, outcome in rows),
        "",
        *notes([outcome for _, outcome in rows]),
    ]
    return "\n".join(lines)


def _original(outcome: Outcome) -> list[str]:
    baseline = outcome.reports[0].baseline
    size = f"{baseline.smallest_bytes:,}" if baseline.smallest_bytes is not None else ""
    published = [f"{paper.ORIGINAL_TOP1:.2%}", "", ""]
    return [f"{outcome.original_top1:.2%}", "", size, "", "", "", *published]


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What was chosen, of how many seeds figures are, how long it took where that is limited, how the files in 8 bits
    do, and where each was measured if not all on one machine."""
    lines = []
    for outcome in outcomes:
        if outcome.chosen is not None:
            tried = ", ".join(
                f"{one.name.removeprefix(outcome.run.name + ', ')} {one.top1:.2%} in {one.stored_bytes:,} bytes"
                for one in outcome.tried
            )
            least = "smallest file" if outcome.run.least == "bytes" else "fastest"
            lines.append(
                f"- {outcome.run.title}: {outcome.chosen}, chosen on images held out of the training ones (the {least} "
                f"within {1 - outcome.run.accuracy_of_best:.1%} of the highest accuracy), of: {tried}."
            )
        if len(outcome.finished) > 1:
            lines.append(f"- {outcome.run.title}: mean and spread of {len(outcome.finished)} seeds.")
        if outcome.run.epochs == "declared":
            lines.append(
                f"- {outcome.run.title}: {outcome.minutes:.0f} minutes from the beginning of the longest job to its "
                "report, steps included that another job of the recipe had done."
            )
        if outcome.in_8_bits is not None:
            speed, top1 = outcome.in_8_bits
            lines.append(
                f"- {outcome.run.title}, as the file that computes in 8 bits: {times(speed)} faster, {percent(top1)}."
            )
    machines = dict.fromkeys(machine for outcome in outcomes for machine in outcome.machines)
    if len(machines) > 1:
        for machine in machines:
            there = [outcome.run.title for outcome in outcomes if machine in outcome.machines]
            lines.append(f"- on {machine}: {'; '.join(there)}.")
    return [*lines, ""] if lines else lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
