"""One kind of fault against one service: struck at random moments under load, then all is held against the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from tests.faults.check import Findings, Result, check, result_of
from tests.faults.fault import Fault, Struck
from tests.faults.load import RECIPES, Load
from tests.faults.site import Site
from tests.support.patience import comes_true

# Until everything that was acknowledged is at its end, once no fault strikes any more, seconds beyond the lease.
SETTLE_SECONDS = 120.0

# For each moment that is wanted: what was to be hit may be gone when it is struck at.
TRIES = 5


@dataclass
class Outcome:
    """What became of it."""

    fault: str
    holds: str
    back_end: str
    seed: int
    bound_seconds: float
    moments: int = 0
    findings: Findings = field(default_factory=Findings)
    seconds: list[float] = field(default_factory=list)  # to running again, of each thing that was hit
    took_seconds: float = 0.0

    @property
    def worst_seconds(self) -> float | None:
        """The longest time to running again."""
        return max(self.seconds, default=None)

    @property
    def held(self) -> bool:
        """The verdict."""
        return self.findings.is_good and (self.worst_seconds or 0.0) <= self.bound_seconds and self.moments > 0


def expected_results(site: Site) -> dict[str, Result]:
    """What a job of each recipe comes to when nothing happens to it."""
    draw, load = Random(0), Load(site, "without a fault", users=0)
    results = {}
    with load:
        jobs = {recipe: load.submit(draw, recipe) for recipe in RECIPES}
        assert comes_true(lambda: site.unfinished() == 0, SETTLE_SECONDS), "jobs without a fault do not end"
        for recipe, job_id in jobs.items():
            assert job_id is not None, load.ledger.refused
            results[recipe] = result_of(site.client(), job_id)
        findings = check(site, load.ledger, results)
    assert findings.is_good, findings
    return results


def run(
    fault: Fault,
    site: Site,
    expected: dict[str, Result],
    *,
    moments: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Strike so many moments, let everything come to its end, and check."""
    begin = time.monotonic()
    outcome = Outcome(fault.name, fault.holds, site.back_end.name, seed, fault.bound_seconds(site))
    draw = Random(f"{seed} {fault.name} {site.back_end.name}")
    struck: list[Struck] = []
    load = Load(site, f"{seed} {fault.name} {time.time_ns()}", outstanding=fault.outstanding)
    with load:
        for _ in range(TRIES * moments):
            if len(struck) == moments:
                break
            time.sleep(draw.uniform(*fault.pause_seconds))
            if (one := fault.strike(site, load, draw)) is not None:
                struck.append(one)
            tell(f"{fault.name}, {site.back_end.name}: {len(struck)} of {moments}")
    comes_true(lambda: site.unfinished() == 0, site.lease_seconds + SETTLE_SECONDS)
    outcome.moments = len(struck)
    outcome.findings = check(site, load.ledger, expected)
    for one in struck:
        outcome.findings.wrong += one.wrong
        outcome.seconds += [] if one.seconds is None else [one.seconds]
        for job_id, number in one.attempts:
            outcome.seconds += _until_running_again(site, job_id, number, one.at)
    outcome.findings.wrong += fault.afterwards(site, load)
    outcome.took_seconds = time.monotonic() - begin
    return outcome


def _until_running_again(site: Site, job_id: str, number: int, at: datetime) -> list[float]:
    """Seconds until the attempt after this one began; none where this one had come to the job's end all the same."""
    ended, following = site.attempt(job_id, number), site.attempt(job_id, number + 1)
    if ended is None or ended.outcome not in ("lost", "released"):
        return []
    return [] if following is None else [(following.started_at - at).total_seconds()]
