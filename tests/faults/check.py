"""What Jepsen would ask: is everything that was acknowledged there, once, and true?

The ledger of the users is held against the rows, against what the API says, and against the bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from sqlalchemy import select

from db.models import Artifact, Attempt, Checkpoint, Event, Job, Metric
from modelpress.spec.event import Progress, StateChanged
from modelpress.spec.report import Report
from modelpress.spec.state import JobState
from tests.faults.load import Ledger
from tests.faults.site import Site
from tests.support.reports import said

# A write and the end of its attempt can be two statements of one transaction, each with a time of its own.
SAME_MOMENT = timedelta(seconds=1)


@dataclass
class Findings:
    """What was found of the jobs of one ledger, in words, each with the job's id."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    attempts: int = 0
    again_epochs: int = 0  # begun by one attempt and again by a later one

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing doubled, nothing wrong."""
        return not (self.lost or self.doubled or self.wrong)


@dataclass(frozen=True)
class Result:
    """What a job of a recipe comes to: files by name, and the report in what is determined."""

    files: dict[str, str]  # SHA-256 of each
    report: dict[str, Any]


def result_of(client: httpx.Client, job_id: str, *, nearly: bool = False) -> Result:
    """The result of a job that has succeeded, its bytes downloaded; `nearly` where it is what others should come to.

    Raises AssertionError where a file has other bytes than its row says.
    """
    files = {}
    for artifact in client.get(f"/v1/jobs/{job_id}/artifacts").raise_for_status().json():
        content = client.get(f"/v1/artifacts/{artifact['id']}/content").raise_for_status().content
        found = (len(content), hashlib.sha256(content).hexdigest())
        assert found == (artifact["size"], artifact["sha256"]), f"{artifact['filename']} has other bytes than its row"
        if artifact["kind"] not in ("log", "model_card"):
            files[artifact["filename"]] = artifact["sha256"]
    report = client.get(f"/v1/jobs/{job_id}/report").raise_for_status().content
    return Result(files, said(Report.model_validate_json(report), nearly=nearly))


def check(site: Site, ledger: Ledger, expected: dict[str, Result]) -> Findings:
    """Hold the ledger against rows, API and bytes. `expected` is what each recipe comes to without any fault."""
    findings = Findings(acknowledged=len(ledger.acknowledged), wrong=list(ledger.refused))
    with site.database.session(read_only=True) as session:
        rows = list(session.scalars(select(Job).where(Job.idempotency_key.in_(ledger.sent))))
    by_key: dict[str | None, list[Job]] = {}
    for row in rows:
        by_key.setdefault(row.idempotency_key, []).append(row)
    for key, ids in ledger.acknowledged.items():
        there = {row.id for row in by_key.get(key, [])}
        findings.lost += [f"{job_id} of {key!r} was acknowledged and has no row" for job_id in ids - there]
        if len(ids | there) > 1:
            findings.doubled.append(f"{key!r} has made {sorted(ids | there)}")
    client = site.client()
    listed = _listed(client)
    for row in rows:
        _check_job(site, client, row, ledger, expected, findings)
        if listed.get(row.id) != row.state:
            findings.wrong.append(f"{row.id} is {row.state}, and listed as {listed.get(row.id)}")
    return findings


def _listed(client: httpx.Client) -> dict[str, str]:
    """The state of every job by the API's list."""
    found: dict[str, str] = {}
    query: dict[str, Any] = {"limit": 100}
    while True:
        page = client.get("/v1/jobs", params=query).raise_for_status().json()
        found |= {job["id"]: job["state"] for job in page["items"]}
        if page["next"] is None:
            return found
        query["after"] = page["next"]


def _check_job(
    site: Site, client: httpx.Client, row: Job, ledger: Ledger, expected: dict[str, Result], findings: Findings
) -> None:
    with site.database.session(read_only=True) as session:
        attempts = list(session.scalars(select(Attempt).where(Attempt.job_id == row.id).order_by(Attempt.number)))
        events = list(session.scalars(select(Event).where(Event.job_id == row.id).order_by(Event.seq)))
        written = [
            (table.__tablename__, attempt, moment)
            for table in (Artifact, Checkpoint, Event, Metric)
            for attempt, moment in session.execute(
                select(table.attempt, table.created_at).where(table.job_id == row.id)
            )
        ]
    findings.attempts += len(attempts)
    findings.again_epochs += _again(events)
    if not row.state.final:
        findings.lost.append(f"{row.id} is still {row.state}")
        return
    states = [event.event.state for event in events if isinstance(event.event, StateChanged)]
    ends = [state for state in states if JobState(state).final]
    successes = [attempt.number for attempt in attempts if attempt.outcome == "succeeded"]
    if len(ends) > 1 or len(successes) > 1:
        findings.doubled.append(f"{row.id} ended {len(ends)} times, {len(successes)} attempts succeeded")
    say = [f"{row.id} {words}" for words in faults_of_history(row, attempts, events, states, written)]
    if row.id in ledger.cancelled:
        if row.state not in (JobState.CANCELLED, JobState.SUCCEEDED):
            say.append(f"{row.id} was cancelled, and is {row.state}")
    elif row.state is not JobState.SUCCEEDED:
        say.append(f"{row.id} is {row.state}: {row.failure and row.failure.message}")
    told = client.get(f"/v1/jobs/{row.id}").raise_for_status().json()
    if (told["state"], len(told["attempts"])) != (row.state, len(attempts)):
        say.append(f"{row.id} is told to be {told['state']} after {len(told['attempts'])} attempts")
    if row.state is JobState.SUCCEEDED:
        try:
            result = result_of(client, row.id)
        except (AssertionError, httpx.HTTPError) as error:
            say.append(f"{row.id}: {error}")
        else:
            if result != expected[row.name]:
                say.append(
                    f"{row.id} came to another result than without a fault: {_differing(result, expected[row.name])}"
                )
    findings.wrong += say


def faults_of_history(
    row: Job, attempts: list[Attempt], events: list[Event], states: list[str], written: Iterable[tuple[str, int, Any]]
) -> Iterable[str]:
    """What is wrong with attempts and events of a job that is at its end."""
    if [attempt.number for attempt in attempts] != list(range(1, row.attempt + 1)):
        yield f"has the attempts {[attempt.number for attempt in attempts]}, and its row says {row.attempt}"
    if [event.seq for event in events] != list(range(1, row.last_seq + 1)):
        yield f"has {len(events)} events, and its row says {row.last_seq}"
    if not states or states[-1] != row.state:
        yield f"is {row.state}, and its events end with {states[-1:]}"
    if states.count("running") != len(attempts):
        yield f"began {states.count('running')} times, in {len(attempts)} attempts"
    for attempt in attempts:
        if attempt.outcome is None or attempt.finished_at is None:
            yield f"is at its end, and its attempt {attempt.number} is not"
            continue
        end = attempt.finished_at + SAME_MOMENT
        late = Counter(name for name, number, at in written if number == attempt.number and at > end)
        if late and attempt.number < row.attempt:
            yield f"was written to by its attempt {attempt.number} after that had ended: {dict(late)}"


def _again(events: list[Event]) -> int:
    """Epochs that were begun by more than one attempt."""
    begun = Counter(
        {
            (event.event.step, event.event.epoch, event.attempt)
            for event in events
            if isinstance(event.event, Progress) and event.event.epoch is not None
        }
    )
    return len(begun) - len({(step, epoch) for step, epoch, _ in begun})


def _differing(found: Result, expected: Result) -> str:
    files = {name for name in {*found.files, *expected.files} if found.files.get(name) != expected.files.get(name)}
    parts = {name for name in expected.report if found.report.get(name) != expected.report[name]}
    return f"files {sorted(files)}, of the report {sorted(parts)}"
