"""A long run of the faults: `python -m tests.faults`; exits with 1 when one of them does harm."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from benchmarks.result import Figure, publish
from tests.faults.back_ends import BACK_ENDS
from tests.faults.campaign import Outcome, expected_results, run
from tests.faults.fault import Fault
from tests.faults.leftovers import leftovers
from tests.faults.real_engine import upload_small_network
from tests.faults.registry import FAULTS
from tests.faults.site import running_site

OUTCOMES = TypeAdapter(Outcome)
HEADINGS = ("fault", "back end", "moments", "acknowledged", "lost", "doubled", "wrong", "worst s", "bound s", "verdict")


def main() -> int:
    """Strike, tell the table, write the result."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--fault", action="append", choices=names, help="this one alone; may be given several times")
    parser.add_argument("--back-end", action="append", choices=BACK_ENDS, help="this one alone")
    parser.add_argument("--moments", type=int, help="of each fault (default: each one's own number)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of what is hit")
    parser.add_argument(
        "--output", type=Path, help="where the result is written as JSON, beside what an earlier run wrote there"
    )
    parser.add_argument("--real-engine", action="store_true", help="train a small network instead of a script")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    try:
        for fault in FAULTS:
            if options.fault and fault.name not in options.fault:
                continue
            for name in options.back_end or fault.back_ends:
                if name in fault.back_ends:
                    moments = options.moments or fault.moments
                    outcomes.append(_try(fault, name, moments, options.seed, options.real_engine))
    finally:
        _tell_of(outcomes)  # also where one broke off, or nobody wants to wait any longer
        if options.output and outcomes:
            _publish(options.output, [*_kept(options.output, outcomes), *outcomes])
    return 0 if outcomes and all(outcome.held for outcome in outcomes) else 1


def _try(fault: Fault, name: str, moments: int, seed: int, real_engine: bool) -> Outcome:
    """One fault on a service of its own."""
    upload = upload_small_network if real_engine else None
    with TemporaryDirectory(prefix="modelpress-faults-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        with (
            BACK_ENDS[name](home) as usual,
            fault.around(usual, home) as back_end,
            running_site(
                home,
                back_end,
                workers=fault.workers,
                apis=fault.apis,
                settings=fault.settings(home),
                upload=upload,
            ) as site,
        ):
            outcome = run([fault], site, expected_results(site), moments={fault.name: moments}, seed=seed, tell=_tell)[
                0
            ]
            outcome.findings.wrong += leftovers(site)
    verdict = "held" if outcome.held else "BROKEN"
    _tell(f"{fault.name}, {name}: {verdict} at {outcome.moments} moments, {outcome.took_seconds:.0f} s", end="\n")
    return outcome


def _tell_of(outcomes: Sequence[Outcome]) -> None:
    Console(width=max(140, Console().width)).print(_table(outcomes))
    for outcome in outcomes:
        for words in (*outcome.findings.lost, *outcome.findings.doubled, *outcome.findings.wrong):
            sys.stdout.write(f"{outcome.fault}, {outcome.back_end}: {words[:500]}\n")


def _tell(words: str, end: str = "") -> None:
    sys.stderr.write(f"\r\x1b[K{time.strftime('%H:%M:%S')} {words}{end}")
    sys.stderr.flush()


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="What was done to a running service, and what became of the jobs it had acknowledged")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("fault", "back end", "verdict") else "right")
    for outcome in outcomes:
        findings, worst = outcome.findings, outcome.worst_seconds
        table.add_row(
            outcome.fault,
            outcome.back_end,
            str(outcome.moments),
            *(str(number) for number in (findings.acknowledged, len(findings.lost), len(findings.doubled))),
            str(len(findings.wrong)),
            "" if worst is None else f"{worst:.1f}",
            f"{outcome.bound_seconds:.1f}",
            "held" if outcome.held else "BROKEN",
        )
    return table


def _kept(path: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What an earlier run wrote there of other faults and back ends: all of them together take hours."""
    if not path.exists():
        return []
    again = {(outcome.fault, outcome.back_end) for outcome in outcomes}
    kept = [OUTCOMES.validate_python(each) for each in json.loads(path.read_text())["conditions"]["outcomes"]]
    return [outcome for outcome in kept if (outcome.fault, outcome.back_end) not in again]


def _publish(path: Path, outcomes: Sequence[Outcome]) -> None:
    total = {
        kind: float(sum(len(getattr(outcome.findings, kind)) for outcome in outcomes))
        for kind in ("lost", "doubled", "wrong")
    }
    jobs = sum(outcome.findings.acknowledged for outcome in outcomes)
    moments = sum(outcome.moments for outcome in outcomes)
    publish(
        path,
        "Jobs under faults",
        {
            "seeds": sorted({outcome.seed for outcome in outcomes}),
            "moments": moments,
            "acknowledged": jobs,
            "outcomes": [asdict(outcome) for outcome in outcomes],
        },
        [
            *(
                Figure(f"{kind}, of {jobs} acknowledged jobs at {moments} moments", count, "jobs", at_most=0)
                for kind, count in total.items()
            ),
            *(
                Figure(
                    f"{outcome.fault}, {outcome.back_end}: longest time to running again",
                    worst,
                    "s",
                    at_most=outcome.bound_seconds,
                )
                for outcome in outcomes
                if (worst := outcome.worst_seconds) is not None
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
