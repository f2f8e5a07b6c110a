"""Faults against one service: struck at random moments under load, then all is held against the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

import httpx
from sqlalchemy.exc import SQLAlchemyError

from tests.faults.check import Findings, Result, check, result_of
from tests.faults.fault import Fault, Struck, clock
from tests.faults.load import RECIPES, Load
from tests.faults.site import Site
from tests.support.patience import comes_true

# Until everything that was acknowledged is at its end, once no fault strikes any more, seconds beyond the lease.
SETTLE_SECONDS = 120.0

# For each moment that is wanted: what was to be hit may be gone when it is struck at, again and again, as jobs take
# about a second. In seconds and not in tries, as a try that misses may be over in no time.
STRIKE_SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    fault: str
    holds: str
    back_end: str
    seed: int
    bound_seconds: float
    moments: int
    findings: Findings
    seconds: list[float]  # to running again, of each thing that was hit
    took_seconds: float

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
            results[recipe] = result_of(site.client(), job_id, nearly=True)
        findings = check(site, load.ledger, results)
    assert findings.is_good, findings
    return results


def run(
    faults: Sequence[Fault],
    site: Site,
    expected: dict[str, Result],
    *,
    moments: Mapping[str, int],
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Strike with each kind so many moments (by its name), under one load, let everything come to its end, and check.

    What is found of the jobs is found of all kinds together: give one at a time to know which it was.
    """
    back_end = site.back_end.name
    load = Load(site, f"{seed} {faults[0].name} {time.time_ns()}")
    struck: list[tuple[Fault, list[Struck], float]] = []
    with load:
        for fault in faults:
            begin = time.monotonic()
            load.outstanding = fault.outstanding
            moment = _strike(fault, site, load, moments[fault.name], Random(f"{seed} {fault.name} {back_end}"), tell)
            struck.append((fault, moment, time.monotonic() - begin))
    died = site.restart_the_dead()
    comes_true(lambda: site.unfinished() == 0, site.lease_seconds + SETTLE_SECONDS)
    findings = check(site, load.ledger, expected)
    findings.wrong += died
    outcomes = []
    for fault, hits, took in struck:
        findings.wrong += [words for hit in hits for words in hit.wrong] + fault.afterwards(site, load)
        seconds = [hit.seconds for hit in hits if hit.seconds is not None]
        for hit in hits:
            seconds += [again for job in hit.attempts for again in _until_running_again(site, *job, hit.at)]
        bound = fault.bound_seconds(site)
        outcomes.append(Outcome(fault.name, fault.holds, back_end, seed, bound, len(hits), findings, seconds, took))
    return outcomes


def _strike(
    fault: Fault, site: Site, load: Load, moments: int, draw: Random, tell: Callable[[str], None]
) -> list[Struck]:
    struck: list[Struck] = []
    give_up = time.monotonic() + STRIKE_SECONDS
    while len(struck) < moments and time.monotonic() < give_up:
        time.sleep(draw.uniform(*fault.pause_seconds))
        try:
            one = fault.strike(site, load, draw)
        except (AssertionError, httpx.HTTPError, SQLAlchemyError) as error:
            # A finding like others; what was found before it is not lost with it.
            one = Struck(clock(), wrong=(f"while it was struck: {error!r}"[:2000],))
        if one is not None:
            struck.append(one)
            give_up = time.monotonic() + STRIKE_SECONDS
        tell(f"{fault.name}, {site.back_end.name}: {len(struck)} of {moments}")
    return struck


def _until_running_again(site: Site, job_id: str, number: int, at: datetime) -> list[float]:
    """Seconds until the attempt after this one began; none where this one had come to the job's end all the same."""
    ended, following = site.attempt(job_id, number), site.attempt(job_id, number + 1)
    if ended is None or ended.outcome not in ("lost", "released"):
        return []
    return [] if following is None else [(following.started_at - at).total_seconds()]
